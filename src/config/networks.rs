//! Networks, and which addresses a connection may reach.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A network: its first address, and the leading bits that all of its addresses share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// Where connections may go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reach {
    /// Wherever the person who wrote the configuration says.
    #[default]
    Anywhere,
    /// To addresses of the public Internet and to these networks: a stranger has named the host.
    Public(Arc<[Network]>),
}

impl Reach {
    /// Says whether a host may be connected to, as far as its name alone says where it is.
    pub fn allows_host(&self, host: &str) -> bool {
        let is_here = host == "localhost" || host.ends_with(".localhost");
        match host.parse() {
            Ok(address) => self.allows(address),
            // RFC 6761, 6.3.
            Err(_) if is_here => {
                self.allows(Ipv4Addr::LOCALHOST.into()) || self.allows(Ipv6Addr::LOCALHOST.into())
            }
            Err(_) => true,
        }
    }

    /// Says whether an address may be connected to.
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Anywhere => true,
            Self::Public(besides) => {
                let meant = meant(address);
                is_public(meant) && (meant == address || is_public(address))
                    || besides.iter().any(|network| network.has(address) || network.has(meant))
            }
        }
    }
}

impl Network {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (first, bits) = text.split_once('/').map_or((text, None), |(first, bits)| (first, Some(bits)));
        let first: IpAddr = first.parse().ok()?;
        let all = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => all,
            Some(bits) if bits.bytes().all(|octet| octet.is_ascii_digit()) => bits.parse().ok()?,
            Some(_) => return None,
        };
        // An address with bits beyond the network's is a slip: 10.1.2.3/8 may have been meant for one address.
        (bits <= all && prefix(first, bits) == number(first)).then_some(Self { first, bits })
    }

    fn has(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && prefix(address, self.bits) == number(self.first)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Gives an address as a number whose first bit is the highest.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Gives the leading bits of an address, and zeros.
fn prefix(address: IpAddr, bits: u8) -> u128 {
    let rest = 128 - u32::from(bits);
    number(address).checked_shr(rest).and_then(|leading| leading.checked_shl(rest)).unwrap_or(0)
}

/// Gives the IPv4 address that packets to an IPv6 address end at: one that is mapped (RFC 4291, 2.5.5), behind NAT64 (RFC
/// 6052, 2.1) or 6to4 (RFC 3056, 2). Any other is meant itself.
fn meant(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let (segments, low) = (v6.segments(), Ipv4Addr::from_bits(v6.to_bits() as u32));
    let v4 = match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] if v6 > Ipv6Addr::LOCALHOST => {
            low
        }
        [0x2002, high, low, ..] => Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)),
        _ => return address,
    };
    v4.into()
}

/// Networks that are not the public Internet's (IANA's registries of special-purpose addresses, RFC 6890), and what clouds
/// tell their machines under an address of it.
const SPECIAL: [(IpAddr, u8); 29] = {
    const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    }
    const fn v6(a: u16, b: u16, c: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
    }
    [
        (v4(0, 0, 0, 0), 8), // this machine
        (v4(10, 0, 0, 0), 8),
        (v4(100, 64, 0, 0), 10), // behind carriers' NAT; a cloud's metadata at 100.100.100.200
        (v4(127, 0, 0, 0), 8),
        (v4(169, 254, 0, 0), 16), // link-local, and most clouds' metadata
        (v4(172, 16, 0, 0), 12),
        (v4(192, 0, 0, 0), 24),
        (v4(192, 0, 2, 0), 24),
        (v4(192, 88, 99, 0), 24),
        (v4(192, 168, 0, 0), 16),
        (v4(198, 18, 0, 0), 15),
        (v4(198, 51, 100, 0), 24),
        (v4(203, 0, 113, 0), 24),
        (v4(168, 63, 129, 16), 32), // Azure's own
        (v4(224, 0, 0, 0), 4),
        (v4(240, 0, 0, 0), 4),
        (v6(0, 0, 0), 96),         // unspecified, loopback, and what was IPv4 once
        (v6(0x64, 0xff9b, 1), 48), // somebody's own NAT64 (RFC 8215)
        (v6(0x100, 0, 0), 64),
        (v6(0x2001, 0, 0), 32), // Teredo
        (v6(0x2001, 2, 0), 48),
        (v6(0x2001, 0x10, 0), 28),
        (v6(0x2001, 0xdb8, 0), 32),
        (v6(0x3fff, 0, 0), 20),
        (v6(0x5f00, 0, 0), 16),
        (v6(0xfc00, 0, 0), 7), // private, and a cloud's metadata at fd00:ec2::254
        (v6(0xfe80, 0, 0), 10),
        (v6(0xfec0, 0, 0), 10),
        (v6(0xff00, 0, 0), 8),
    ]
};

fn is_public(address: IpAddr) -> bool {
    !SPECIAL.iter().any(|&(first, bits)| Network { first, bits }.has(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(networks: &[&str]) -> Reach {
        Reach::Public(networks.iter().map(|network| Network::parse(network).unwrap()).collect())
    }

    #[test]
    fn a_stranger_reaches_nothing_but_the_public_internet() {
        let reach = reach(&[]);
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.1.2.3",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2::3",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
        ] {
            assert!(!reach.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_stranger_reaches_all_of_the_public_internet() {
        let reach = reach(&[]);
        for address in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "172.15.255.255",
            "172.32.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
            "2a00::1",
        ] {
            assert!(reach.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_network_that_is_allowed_is_reached_by_each_of_its_names() {
        let reach = reach(&["10.1.0.0/16", "127.0.0.1", "fd12::/32"]);
        for address in ["10.1.255.255", "127.0.0.1", "::ffff:10.1.2.3", "64:ff9b::7f00:1", "fd12:0:ffff::1"] {
            assert!(reach.allows(address.parse().unwrap()), "{address}");
        }
        for address in ["10.2.0.0", "127.0.0.2", "::ffff:127.0.0.2", "fd12:1::1", "::1"] {
            assert!(!reach.allows(address.parse().unwrap()), "{address}");
        }
        assert!(Reach::Anywhere.allows(Ipv4Addr::LOCALHOST.into()));
    }

    #[test]
    fn a_network_is_an_address_and_a_length_without_bits_beyond_it() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("::/0", "::/0"),
            ("0.0.0.0/0", "0.0.0.0/0"),
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), shown);
        }
        for bad in
            ["", "10", "10.1.2.3/8", "10.0.0.0/33", "fd00::/129", "10.0.0.0/+8", "10.0.0.0/", "localhost"]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
        assert!(reach(&["0.0.0.0/0"]).allows("127.0.0.1".parse().unwrap()));
    }
}
