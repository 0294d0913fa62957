//! A network and mounts of a test's own: names of hosts, a name server, and every port of every loopback address.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use nix::unistd::getuid;
use tempfile::TempDir;

/// Says to a test's process that it runs in a namespace of its own.
const INSIDE: &str = "POSTRIDER_TEST_NAMESPACE";
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// What is answered, by name and kind.
type Records = HashMap<(String, u16), Vec<u8>>;

/// The namespace that this process is in.
#[derive(Debug)]
pub struct Namespace {
    directory: TempDir,
    hosts: Mutex<Vec<(String, Ipv4Addr)>>,
    records: Arc<Mutex<Records>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Namespace {
    /// Has a test run again in a process of its own with nobody else's network, and gives that to it; the first call gives
    /// nothing, when the test is over. `test` is its path in its program.
    pub fn of(test: &str) -> Option<Self> {
        if std::env::var_os(INSIDE).is_some() {
            return Some(Self::enter());
        }
        let program = std::env::current_exe().expect("this program");
        let mut command = Command::new("unshare");
        if !getuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--"]).arg(program);
        command.args([test, "--exact", "--nocapture"]).env(INSIDE, "1");
        let output = command.output().expect("unshare (Debian: util-linux)");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{test}, which wants root or namespaces for everybody:\n{said}"
        );
        None
    }

    fn enter() -> Self {
        let directory = TempDir::new().expect("a directory");
        let run = |program: &str, arguments: &[&str]| {
            let status = Command::new(program).args(arguments).status().expect(program);
            assert!(status.success(), "{program} {arguments:?}");
        };
        run("ip", &["link", "set", "lo", "up"]);
        let over = |name: &str, text: &str| {
            let own = directory.path().join(name);
            fs::write(&own, text).expect("a file");
            let there = fs::canonicalize(Path::new("/etc").join(name)).expect("a file of the system");
            run("mount", &["--bind", own.to_str().expect("text"), there.to_str().expect("text")]);
        };
        over("hosts", "127.0.0.1 localhost\n");
        over("resolv.conf", &format!("nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n"));
        let this =
            Self { directory, hosts: Mutex::default(), records: Arc::default(), asked: Arc::default() };
        this.answer();
        this
    }

    /// Gives the address of a host, which gets one if it has none.
    pub fn host(&self, name: &str) -> Ipv4Addr {
        let mut hosts = self.hosts.lock().unwrap();
        if let Some((_, address)) = hosts.iter().find(|(known, _)| known == name) {
            return *address;
        }
        let address = Ipv4Addr::new(127, 0, 1, u8::try_from(hosts.len() + 1).expect("few hosts"));
        self.alias(name, address);
        hosts.push((name.to_owned(), address));
        address
    }

    /// Gives a host this address.
    pub fn alias(&self, name: &str, address: Ipv4Addr) {
        let file = OpenOptions::new().append(true).open(self.directory.path().join("hosts"));
        writeln!(file.expect("the hosts"), "{address} {name}").expect("a line");
    }

    /// Has the name server answer with a host for the mail of a domain.
    pub fn mx(&self, domain: &str, host: &str) {
        let record = [&10_u16.to_be_bytes()[..], &encoded(host)].concat();
        self.records.lock().unwrap().insert((domain.to_owned(), 15), record);
    }

    /// Has it answer with a service; no host is the root, which says that there is none.
    pub fn srv(&self, name: &str, host: &str, port: u16) {
        let numbers = [0, 0, port].map(u16::to_be_bytes).concat();
        self.records.lock().unwrap().insert((name.to_owned(), 33), [numbers, encoded(host)].concat());
    }

    /// Takes such a record away.
    pub fn forget(&self, name: &str) {
        self.records.lock().unwrap().retain(|(known, _), _| known != name);
    }

    /// Gives what the name server was asked for.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Answers questions until the process ends.
    fn answer(&self) {
        let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("a port of one's own");
        let (records, asked) = (Arc::clone(&self.records), Arc::clone(&self.asked));
        thread::spawn(move || {
            let mut octets = [0; 1500];
            while let Ok((count, from)) = socket.recv_from(&mut octets) {
                let Some((name, end)) = question(&octets[..count]) else { continue };
                let kind = u16::from_be_bytes([octets[end], octets[end + 1]]);
                let record = records.lock().unwrap().get(&(name.clone(), kind)).cloned();
                asked.lock().unwrap().push(name);
                let flags: [u8; 2] = if record.is_some() { [0x81, 0x80] } else { [0x81, 0x83] };
                let counts = [0, 1, 0, u8::from(record.is_some()), 0, 0, 0, 0];
                let mut answer = [&octets[..2], &flags, &counts, &octets[12..end + 4]].concat();
                if let Some(record) = record {
                    answer.extend([0xc0, 12]);
                    answer.extend([kind, 1, 0, 60].map(u16::to_be_bytes).concat());
                    answer.extend(u16::try_from(record.len()).expect("a short one").to_be_bytes());
                    answer.extend(record);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
    }
}

/// Reads the name that is asked for, and where its kind stands (RFC 1035, 4.1).
fn question(octets: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        match usize::from(*octets.get(at)?) {
            0 => return (octets.len() >= at + 5).then(|| (labels.join("."), at + 1)),
            length => {
                let label = octets.get(at + 1..at + 1 + length)?;
                labels.push(String::from_utf8_lossy(label).to_lowercase());
                at += length + 1;
            }
        }
    }
}

fn encoded(host: &str) -> Vec<u8> {
    let labels = host.split('.').filter(|label| !label.is_empty());
    let mut octets: Vec<u8> =
        labels.flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat()).collect();
    octets.push(0);
    octets
}
