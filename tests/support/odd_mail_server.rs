//! An SMTP and LMTP server with the peculiarities of real ones, which can be set while it runs.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// What is peculiar about it.
#[derive(Debug, Clone, Default)]
pub struct Habits {
    /// The lines of its reply to EHLO.
    pub extensions: Vec<&'static str>,
    /// Its reply to EHLO, if that is no.
    pub no_ehlo: Option<&'static str>,
    /// What stands in one packet behind the end of a message is lost (Courier's esmtpd).
    pub loses_behind_end: bool,
    /// Of a packet of commands only the first is obeyed.
    pub loses_packets: bool,
    /// It ends the connection over commands behind the end of a message.
    pub ends_over_ahead: bool,
    /// Messages of one connection; then 452 to MAIL (OpenSMTPD).
    pub most_messages: Option<usize>,
    /// Its reply to each MAIL, and to that of one sender.
    pub mail: Option<&'static str>,
    pub mail_from: Option<(&'static str, &'static str)>,
    /// Its reply to each RCPT.
    pub rcpt: Option<&'static str>,
    /// Messages of one connection; the next is ended by 421 in place of its answer.
    pub most_ended: Option<usize>,
    /// Messages of one connection; then 451 to RCPT.
    pub most_served: Option<usize>,
    /// How long it takes for MAIL.
    pub thinks: Duration,
}

/// A running server; its threads end with their connections, and with the process.
#[derive(Debug, Clone)]
pub struct OddMailServer {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    habits: Habits,
    connections: usize,
    commands: Vec<String>,
    messages: Vec<Vec<u8>>,
}

impl OddMailServer {
    /// Starts on a free loopback port.
    pub fn start(habits: Habits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free loopback port");
        let port = listener.local_addr().expect("its address").port();
        let server = Self { port, shared: Arc::new(Mutex::new(Shared { habits, ..Shared::default() })) };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let _ = stream.set_nodelay(true);
                serving.lock().connections += 1;
                let server = serving.clone();
                // A client that goes is no error of the server.
                thread::spawn(move || drop(Session { stream, server, taken: 0 }.serve()));
            }
        });
        server
    }

    /// Gives the port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes what is peculiar about it.
    pub fn change(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.lock().habits);
    }

    /// Counts the connections that were made.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    /// Gives the messages that were taken, in order, dots unstuffed.
    pub fn messages(&self) -> Vec<Vec<u8>> {
        self.lock().messages.clone()
    }

    /// Counts the commands that begin so.
    pub fn count(&self, verb: &str) -> usize {
        self.lock().commands.iter().filter(|command| command.starts_with(verb)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("nobody panics with it")
    }
}

struct Session {
    stream: TcpStream,
    server: OddMailServer,
    taken: usize,
}

impl Session {
    fn serve(&mut self) -> std::io::Result<()> {
        self.say("220 odd")?;
        let mut incoming = Vec::new();
        let mut message: Option<Vec<u8>> = None;
        let (mut has_sender, mut recipients) = (false, 0);
        loop {
            let Some(end) = incoming.iter().position(|octet| *octet == b'\n') else {
                let mut octets = [0; 1 << 16];
                let read = self.stream.read(&mut octets)?;
                if read == 0 {
                    return Ok(());
                }
                incoming.extend_from_slice(&octets[..read]);
                continue;
            };
            let line: Vec<u8> = incoming.drain(..=end).collect();
            let habits = self.server.lock().habits.clone();
            if let Some(octets) = &mut message {
                if line != b".\r\n" {
                    octets.extend(line.strip_prefix(b".").unwrap_or(&line));
                    continue;
                }
                let octets = message.take().unwrap_or_default();
                if habits.most_ended.is_some_and(|most| self.taken >= most) {
                    return self.say("421 4.3.2 the filter is away");
                }
                self.server.lock().messages.push(octets);
                self.taken += 1;
                self.say("250 taken")?;
                if !incoming.is_empty() && habits.ends_over_ahead {
                    return Ok(());
                }
                if habits.loses_behind_end {
                    incoming.clear();
                }
                continue;
            }
            let command = String::from_utf8_lossy(&line).trim_end().to_owned();
            let verb = command.get(..4).unwrap_or_default().to_owned();
            self.server.lock().commands.push(command.clone());
            match &*verb {
                "EHLO" | "LHLO" => self.hello(&habits)?,
                "HELO" => self.say("250 odd")?,
                "MAIL" => {
                    recipients = 0;
                    thread::sleep(habits.thinks);
                    let of_sender = habits.mail_from.filter(|(sender, _)| command.contains(sender));
                    let full = habits.most_messages.is_some_and(|most| self.taken >= most);
                    let full = full.then_some("452 4.5.3 Too many messages sent");
                    let no = full.or(habits.mail).or(of_sender.map(|(_, no)| no));
                    has_sender = no.is_none();
                    self.say(no.unwrap_or("250 ok"))?;
                }
                "RCPT" if !has_sender => self.say("503 no sender")?,
                "RCPT" => {
                    let full = habits.most_served.is_some_and(|most| self.taken >= most);
                    let no = full.then_some("451 4.7.1 enough for now").or(habits.rcpt);
                    recipients += usize::from(no.is_none());
                    self.say(no.unwrap_or("250 ok"))?;
                }
                "DATA" if recipients == 0 => self.say("503 no recipients")?,
                "DATA" => {
                    message = Some(Vec::new());
                    self.say("354 go")?;
                }
                "QUIT" => {
                    self.say("221 bye")?;
                    return Ok(());
                }
                _ => self.say("250 ok")?,
            }
            if habits.loses_packets {
                incoming.clear();
            }
        }
    }

    fn hello(&mut self, habits: &Habits) -> std::io::Result<()> {
        if let Some(no) = habits.no_ehlo {
            return self.say(no);
        }
        let lines: String = habits.extensions.iter().map(|line| format!("250-{line}\r\n")).collect();
        self.say(&format!("250-odd\r\n{lines}250 HELP"))
    }

    fn say(&mut self, line: &str) -> std::io::Result<()> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())
    }
}
