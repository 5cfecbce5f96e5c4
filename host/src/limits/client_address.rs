//! Identifies clients by their addresses.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use hyper::header::HeaderMap;
use ipnet::IpNet;

/// What counts as one address: an IPv4 address, or an IPv6 network of the size that one customer
/// has (a /56).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        ClientNetwork(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                const NETWORK: u128 = !(u128::MAX >> 56);
                Ipv6Addr::from_bits(address.to_bits() & NETWORK).into()
            }
        })
    }
}

/// The client's address: the peer's, unless the peer is a trusted proxy, which names its client in
/// `X-Forwarded-For`. Proxies append to that header, so it is read from its end, up to the first
/// address that is not a trusted proxy's.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
    let forwarded = headers.get_all("x-forwarded-for").into_iter();
    // The part that the client wrote itself may be any bytes.
    let forwarded: Vec<&[u8]> = forwarded
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .collect();
    let mut address = peer.to_canonical();
    for hop in forwarded.iter().rev() {
        if !is_trusted(address) {
            break;
        }
        let Some(next) = std::str::from_utf8(hop).ok().and_then(hop_address) else {
            break;
        };
        address = next.to_canonical();
    }
    address
}

/// Whether a request came through a proxy: its peer is a trusted one, or it has a header of proxies.
/// A client that sends such a header itself only loses by it.
pub fn is_proxied(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    const OF_PROXIES: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-proto"];
    let peer = peer.to_canonical();
    trusted.iter().any(|network| network.contains(&peer))
        || OF_PROXIES.iter().any(|name| headers.contains_key(*name))
}

/// Parses an address, to which some proxies append the port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let with_port = || hop.parse::<SocketAddr>().map(|address| address.ip());
    hop.parse().or_else(|_| with_port()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    use hyper::header::HeaderValue;

    fn ip(address: &str) -> IpAddr {
        address.parse().expect("an address")
    }

    #[test]
    fn the_address_of_a_client_is_what_trusted_proxies_say() {
        let trusted =
            ["127.0.0.0/8", "::1/128", "10.0.0.0/8"].map(|n| n.parse().expect("a network"));
        for (peer, forwarded, expected) in [
            ("192.0.2.1", vec![], "192.0.2.1"),
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("127.0.0.1", vec![], "127.0.0.1"),
            ("127.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            // The client's own entry comes first.
            ("127.0.0.1", vec!["10.9.9.9, 198.51.100.7"], "198.51.100.7"),
            (
                "127.0.0.1",
                vec!["203.0.113.5, 198.51.100.7, 10.0.0.2"],
                "198.51.100.7",
            ),
            (
                "127.0.0.1",
                vec!["203.0.113.5", "198.51.100.7", "10.0.0.2"],
                "198.51.100.7",
            ),
            ("127.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("127.0.0.1", vec!["nonsense"], "127.0.0.1"),
            (
                "127.0.0.1",
                vec!["198.51.100.7, nonsense, 10.0.0.2"],
                "10.0.0.2",
            ),
            ("127.0.0.1", vec![""], "127.0.0.1"),
            ("127.0.0.1", vec!["é, 198.51.100.7"], "198.51.100.7"),
            ("127.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("127.0.0.1", vec!["[2001:db8::1]:4711"], "2001:db8::1"),
            ("::ffff:127.0.0.1", vec!["2001:db8::1"], "2001:db8::1"),
            ("::1", vec!["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            let mut headers = HeaderMap::new();
            for value in &forwarded {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a header");
                headers.append("x-forwarded-for", value);
            }
            let address = client_address(ip(peer), &headers, &trusted);
            assert_eq!(address, ip(expected), "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn a_network_of_version_6_counts_as_one() {
        let of = |address| ClientNetwork::from(ip(address));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8:0:ff::1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:100::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
