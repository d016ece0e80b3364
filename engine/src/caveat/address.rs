//! IP addresses and the networks they are in.

use std::net::IpAddr;
use std::sync::Arc;

/// An IP address. IPv4 mapped into IPv6 is the IPv4 address itself (RFC 4291, 2.5.5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    ip: IpAddr,
    /// The zone of a scoped IPv6 address (`fe80::1%eth0`, RFC 4007): a different address, in no network.
    zone: Option<Arc<str>>,
}

impl Address {
    /// Parses dotted IPv4, or IPv6 with or without a zone.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (ip, zone) = match text.split_once('%') {
            Some((ip, zone)) if !zone.is_empty() && ip.contains(':') => (ip, Some(Arc::from(zone))),
            Some(_) => return None,
            None => (text, None),
        };
        let ip = ip.parse::<IpAddr>().ok()?;
        let mapped = ip.to_canonical() != ip;
        Some(Self {
            ip: ip.to_canonical(),
            zone: zone.filter(|_| !mapped),
        })
    }

    /// Whether the address is in a network such as `10.0.0.0/8`; `None` if that is none. IPv4 addresses are in no
    /// IPv6 network, nor the other way.
    pub(super) fn is_in(&self, network: &str) -> Option<bool> {
        let (ip, length) = network.split_once('/')?;
        let ip = ip.parse::<IpAddr>().ok()?;
        let plain =
            length.bytes().all(|next| next.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
        let length = length.parse::<u32>().ok().filter(|_| plain)?;
        let width = if ip.is_ipv4() { 32 } else { 128 };
        if length > width {
            return None;
        }
        let same = |left: u128, right: u128| (left ^ right).checked_shr(width - length).unwrap_or(0) == 0;
        Some(match (self.ip, ip) {
            _ if self.zone.is_some() => false,
            (IpAddr::V4(left), IpAddr::V4(right)) => same(left.to_bits().into(), right.to_bits().into()),
            (IpAddr::V6(left), IpAddr::V6(right)) => same(left.to_bits(), right.to_bits()),
            _ => false,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.zone {
            Some(zone) => write!(formatter, "{}%{zone}", self.ip),
            None => write!(formatter, "{}", self.ip),
        }
    }
}
