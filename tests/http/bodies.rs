//! Bodies of requests: nobody sends one before its sender is known, and all of them together take no more memory than they may.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::harness::*;

const ENDPOINTS: [(&str, &str); 14] = [
    ("POST", "/v1/check"),
    ("POST", "/v1/check/batch"),
    ("POST", "/v1/expand"),
    ("POST", "/v1/simulate"),
    ("PUT", "/v1/schema"),
    ("POST", "/v1/schema/validate"),
    ("POST", "/v1/schema/test"),
    ("POST", "/v1/relationships/write"),
    ("POST", "/v1/relationships/delete"),
    ("POST", "/v1/relationships/read"),
    ("POST", "/v1/resources/list"),
    ("POST", "/v1/accounts"),
    ("PATCH", "/v1/accounts/018f4e7a-9c3b-7d21-8a54-3f2b1c0d9e8f"),
    ("PATCH", "/v1/vaults/018f4e7a-9c3b-7d21-8a54-3f2b1c0d9e8f"),
];

/// Sends the head of a write and as much of its body, and waits for no answer.
fn begin(server: &Server, token: &str, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!(
        "POST /v1/relationships/write HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; sent]).unwrap();
    stream
}

/// An answer whose connection stays open: the server waits a while for what was announced.
fn read_answer(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    let mut some = [0; 4096];
    loop {
        let read = stream.read(&mut some).unwrap();
        answer.push_str(std::str::from_utf8(&some[..read]).unwrap());
        let ended = answer.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let head = head.to_ascii_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap();
            body.len() >= length.lines().next().unwrap().parse().unwrap()
        });
        if ended || read == 0 {
            return answer;
        }
    }
}

fn held(server: &Server) -> f64 {
    server.metric("inferadb_bodies_bytes").unwrap()
}

fn refused(server: &Server, limit: &str) -> f64 {
    let series = format!("inferadb_bodies_refused_total{{limit=\"{limit}\"}}");
    server.metric(&series).unwrap_or(0.0)
}

#[test]
fn a_stranger_is_refused_before_anything_of_a_body_is_sent() {
    let server = Server::shared();
    let strangers = [
        ("missing_token", String::new()),
        ("missing_token", "Authorization: Basic YTpi\r\n".to_owned()),
        ("invalid_token", "Authorization: Bearer a.b.c\r\n".to_owned()),
    ];
    for (method, path) in ENDPOINTS {
        for (code, authorization) in &strangers {
            for length in ["Content-Length: 4000000", "Transfer-Encoding: chunked"] {
                // Whoever waited for the body would answer 504.
                let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
                let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\n{authorization}{length}\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
                let answer = read_answer(&mut stream);
                let told = format!("{method} {path} {authorization}{length}: {answer}");
                assert!(answer.starts_with("HTTP/1.1 401 "), "{told}");
                assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{told}");
                assert!(
                    answer
                        .to_ascii_lowercase()
                        .contains("\r\nwww-authenticate: bearer"),
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn a_refused_request_leaves_its_connection_usable() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "refused");
    let body = question_body("user:ann view document:d").to_string();
    let one = |authorization: &str, close: &str| {
        format!(
            "POST /v1/check HTTP/1.1\r\nHost: h\r\n{close}{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let good = format!("Authorization: Bearer {}\r\n", tenant.token(ALL_SCOPES));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(one("", "").as_bytes()).unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 401");
    stream
        .write_all(one(&good, "Connection: close\r\n").as_bytes())
        .unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains("HTTP/1.1 200"), "{rest}");
}

#[test]
fn bodies_in_pieces_are_put_together() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "pieces");
    let many: Vec<Value> = (0..1_000)
        .map(|at| relationship(&format!("document:{at}{}#viewer@user:ann", "d".repeat(60))))
        .collect();
    let body = json!({ "touch": many }).to_string();
    assert!(body.len() > 100_000);
    let head = format!(
        "POST /v1/relationships/write HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {}\r\n",
        tenant.token(ALL_SCOPES)
    );
    let whole = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    exchange(server.port, whole.as_bytes()).expect(200);
    let mut chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in body.as_bytes().chunks(999) {
        chunked.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        chunked.extend(piece);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    exchange(server.port, &chunked).expect(200);
    assert_eq!(tenant.read(json!({ "resource_type": "document" })).len(), 1_000);
    assert_eq!(tenant.post_raw("/v1/check", b"").status, 400);
}

#[test]
fn bodies_take_no_more_memory_than_they_may_and_one_account_not_all_of_it() {
    let server = Server::with(json!({
        "storage": { "backend": "memory" },
        "server": {
            "request_timeout_ms": 60_000,
            "max_bodies_bytes": 600_000,
            "max_account_bodies_bytes": 300_000,
        },
    }));
    let tenants: Vec<_> = (0..4)
        .map(|at| Tenant::with_documents(&server, &format!("t{at}")))
        .collect();
    let token = |at: usize| tenants[at].token(ALL_SCOPES);
    // What is only announced takes nothing.
    let announced: Vec<_> = (0..8).map(|_| begin(&server, &token(0), 4_000_000, 0)).collect();
    let first = begin(&server, &token(0), 250_000, 249_000);
    until("the first body is here", || {
        (held(&server) > 200_000.0).then_some(())
    });
    let large = vec![b' '; 250_000];
    let answer = tenants[0].post_raw("/v1/relationships/write", &large);
    let problem = answer.problem(429, "rate_limited");
    assert_eq!(problem["limit"], "max_account_bodies_bytes");
    assert!(answer.header("retry-after").is_some());
    let second = begin(&server, &token(1), 250_000, 249_000);
    until("the second body is here", || {
        (held(&server) > 400_000.0).then_some(())
    });
    let answer = tenants[2].post_raw("/v1/relationships/write", &large);
    let problem = answer.problem(503, "overloaded");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("server.max_bodies_bytes"),
        "{problem}"
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(
        (
            refused(&server, "max_bodies_bytes"),
            refused(&server, "max_account_bodies_bytes")
        ),
        (1.0, 1.0)
    );
    // A small one needs no room.
    assert_eq!(tenants[0].check("user:ann view document:d"), "deny");
    assert_eq!(tenants[3].check("user:ann view document:d"), "deny");
    // Whoever gives up gives his room back.
    drop(second);
    until("there is room again", || {
        let answer = tenants[2].post_raw("/v1/relationships/write", &large);
        (answer.status == 400).then_some(())
    });
    drop((first, announced));
    until("nothing is held", || (held(&server) == 0.0).then_some(()));
}
