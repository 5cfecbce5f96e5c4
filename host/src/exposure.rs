//! Whether the server may be reached without TLS, and which hosts are this machine.

use std::net::IpAddr;

use ipnet::IpNet;

/// A warning if others can reach this address and, as far as the configuration says, nothing puts TLS
/// in front of it. The program itself has no TLS. That a proxy has it cannot be seen; one on another
/// machine is named in TRUSTED_PROXIES, and for one on this machine a loopback address is enough.
pub fn warning(ip: IpAddr, trusted_proxies: &[IpNet]) -> Option<String> {
    let is_elsewhere = |proxy: &IpNet| !proxy.addr().is_loopback();
    if ip.is_loopback() || trusted_proxies.iter().any(is_elsewhere) {
        return None;
    }
    Some(format!(
        "others can reach {ip} without TLS: anyone in between can read passwords and messages, and browsers drop the \
         login cookie. Put a proxy with TLS in front, and set HOST to 127.0.0.1 if it is on this machine, or name it in \
         TRUSTED_PROXIES"
    ))
}

/// Whether a host, which may have a port, is the browser's own machine.
pub fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = |address: IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_without_a_proxy_is_warned_of() {
        for (ip, proxies, is_warned) in [
            ("127.0.0.1", vec![], false),
            ("::1", vec!["127.0.0.0/8"], false),
            ("0.0.0.0", vec!["127.0.0.0/8", "::1/128"], true),
            ("192.168.1.5", vec![], true),
            ("::", vec!["127.0.0.0/8", "172.31.245.0/28"], false),
        ] {
            let networks = proxies
                .iter()
                .map(|proxy| proxy.parse().expect("a network"));
            let networks: Vec<IpNet> = networks.collect();
            let warning = warning(ip.parse().expect("an address"), &networks);
            assert_eq!(warning.is_some(), is_warned, "{ip} {proxies:?}");
        }
    }
}
