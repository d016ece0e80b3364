# syntax=docker/dockerfile:1
#
#   docker build -t inferadb/inferadb .
#   docker run -p 8080:8080 -p 9090:9090 -v ./config.yaml:/etc/inferadb/config.yaml:ro \
#     -v /etc/foundationdb:/etc/foundationdb:ro -v inferadb:/var/lib/inferadb inferadb/inferadb

ARG RUST_VERSION=1.90

FROM rust:${RUST_VERSION}-slim-bookworm AS build
# The client must be of the cluster's minor version. Give FDB_SHA256 to pin the package's content; without it the
# package is checked against the checksum published beside it.
ARG FDB_VERSION=7.3.63
ARG FDB_SHA256=""
ARG TARGETARCH
RUN apt-get update \
    && apt-get install -y --no-install-recommends adduser ca-certificates clang cmake curl libclang-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /fdb
RUN set -eu; \
    case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) arch=amd64 ;; \
        arm64) arch=aarch64 ;; \
        *) echo "there is no FoundationDB client for ${TARGETARCH}" >&2; exit 1 ;; \
    esac; \
    package="foundationdb-clients_${FDB_VERSION}-1_${arch}.deb"; \
    from="https://github.com/apple/foundationdb/releases/download/${FDB_VERSION}"; \
    curl --fail --silent --show-error --location --proto '=https' --output client.deb "${from}/${package}"; \
    sum="${FDB_SHA256}"; \
    if [ -z "${sum}" ]; then \
        sum="$(curl --fail --silent --show-error --location --proto '=https' "${from}/${package}.sha256" | cut -d ' ' -f 1)"; \
    fi; \
    echo "${sum}  client.deb" | sha256sum --check --strict; \
    dpkg --install client.deb
WORKDIR /source
COPY . .
# Kernels for arm64 have pages of 4, 16 or 64 KiB: the allocator has to know the largest.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    if [ "$(dpkg --print-architecture)" = arm64 ]; then export JEMALLOC_SYS_WITH_LG_PAGE=16; fi; \
    cargo build --release --locked --features foundationdb --bin inferadb \
    && cp target/release/inferadb /usr/local/bin/inferadb

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin inferadb \
    && install --directory --owner inferadb --group inferadb /var/lib/inferadb /var/log/inferadb
COPY --from=build /usr/lib/libfdb_c.so /usr/lib/libfdb_c.so
COPY --from=build /usr/local/bin/inferadb /usr/local/bin/inferadb
# A container is reached through its own address; which of its ports are is for `docker run -p` to say.
ENV INFERADB__SERVER__HOST=0.0.0.0
USER inferadb
VOLUME /var/lib/inferadb
EXPOSE 8080 9090
# Without a client program: the shell opens the connection.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/${INFERADB__SERVER__PORT:-8080} && printf 'GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r -t 2 line <&3 && [[ $line == 'HTTP/1.1 200'* ]]"]
ENTRYPOINT ["inferadb"]
CMD ["serve"]
