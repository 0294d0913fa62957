//! What a service tells systemd of itself (sd_notify(3)), and how often it must (sd_watchdog_enabled(3)).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager, if one started us and wants to hear.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketPath)>,
    watchdog: Option<Duration>,
    status: String,
}

#[derive(Debug, PartialEq, Eq)]
enum SocketPath {
    Path(PathBuf),
    /// A name in Linux's abstract name space.
    Abstract(Vec<u8>),
}

impl Systemd {
    /// Looks at `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`.
    pub fn from_environment() -> Self {
        let place = env::var_os("NOTIFY_SOCKET").as_deref().and_then(place);
        let socket = place.and_then(|place| match UnixDatagram::unbound() {
            // A manager that does not read must not stop the polls.
            Ok(socket) => socket.set_nonblocking(true).is_ok().then_some((socket, place)),
            Err(error) => {
                log::warn!("cannot tell systemd anything: {error}");
                None
            }
        });
        let number = |name| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0).map(Duration::from_micros);
        Self { socket, watchdog, status: String::new() }
    }

    /// Gives how often [`Systemd::alive`] must be called: twice in the time that systemd allows.
    pub fn watchdog(&self) -> Option<Duration> {
        self.socket.as_ref().and(self.watchdog).map(|limit| limit / 2)
    }

    /// The daemon runs, or runs again with a configuration that was read.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The configuration is being read; [`Systemd::ready`] follows.
    pub fn reloading(&self) {
        // Type=notify-reload tells by it whether this answers its SIGHUP or an earlier one.
        match clock_gettime(ClockId::CLOCK_MONOTONIC) {
            Ok(now) => {
                self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", Duration::from(now).as_micros()));
            }
            Err(error) => log::warn!("cannot read the clock: {error}"),
        }
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The loop that begins the sessions turns.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Shows a line in `systemctl status`; the same one is told once.
    pub fn status(&mut self, status: String) {
        if self.socket.is_some() && self.status != status {
            self.tell(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    fn tell(&self, message: &str) {
        let Some((socket, place)) = &self.socket else { return };
        if let Err(error) = send(socket, place, message.as_bytes()) {
            log::debug!("cannot tell systemd {message:?}: {error}");
        }
    }
}

fn place(name: &OsStr) -> Option<SocketPath> {
    match name.as_bytes() {
        [b'@', name @ ..] => Some(SocketPath::Abstract(name.to_vec())),
        [b'/', ..] => Some(SocketPath::Path(name.into())),
        [] => None,
        other => {
            log::warn!("cannot tell systemd anything: NOTIFY_SOCKET is {:?}", OsStr::from_bytes(other));
            None
        }
    }
}

fn send(socket: &UnixDatagram, place: &SocketPath, message: &[u8]) -> io::Result<usize> {
    match place {
        SocketPath::Path(path) => socket.send_to(message, path),
        #[cfg(target_os = "linux")]
        SocketPath::Abstract(name) => {
            use std::os::linux::net::SocketAddrExt;
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            socket.send_to_addr(message, &address)
        }
        #[cfg(not(target_os = "linux"))]
        SocketPath::Abstract(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notify_socket_is_a_path_or_an_abstract_name() {
        let place = |name: &str| place(OsStr::new(name));
        assert_eq!(place("/run/systemd/notify"), Some(SocketPath::Path("/run/systemd/notify".into())));
        assert_eq!(place("@notify"), Some(SocketPath::Abstract(b"notify".to_vec())));
        assert_eq!((place(""), place("vsock:2:1234")), (None, None));
    }

    #[test]
    fn a_status_is_told_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        let socket = Some((UnixDatagram::unbound().unwrap(), SocketPath::Path(path)));
        let mut systemd = Systemd { socket, watchdog: None, status: String::new() };
        for status in ["1 account", "1 account", "2 accounts"] {
            systemd.status(status.into());
        }
        let mut heard = Vec::new();
        let mut octets = [0; 100];
        while let Ok(length) = manager.recv(&mut octets) {
            heard.push(String::from_utf8_lossy(&octets[..length]).into_owned());
        }
        assert_eq!(heard, ["STATUS=1 account", "STATUS=2 accounts"]);
    }
}
