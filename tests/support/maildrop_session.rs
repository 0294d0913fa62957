//! One connection of a [`Maildrop`](super::Maildrop): commands in, replies out.

// By its path, as this file is.
#[path = "maildrop_log_in.rs"]
mod log_in;

use std::io;
use std::mem;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use super::super::wire::{Cut, Flights, Wire};
use super::{Ahead, Fault, Message, Protection, Shared, Trick, What};

/// Replies are gathered up to so many octets as long as commands are waiting.
const GATHERED: usize = 1 << 16;

/// What a command leads to.
enum Next {
    /// The session goes on.
    Command,
    /// The TLS handshake follows.
    Tls,
    /// The session is over.
    End,
}

pub(super) struct Session<'a> {
    shared: &'a Shared,
    number: usize,
    wire: Option<Wire>,
    out: Vec<u8>,
    user: Option<String>,
    protected: bool,
    open: bool,
    view: Vec<(Arc<Message>, bool)>,
}

impl<'a> Session<'a> {
    /// Serves one client until it goes, or until a fault ends the connection.
    pub(super) fn serve(socket: TcpStream, shared: &'a Shared, number: usize) -> io::Result<()> {
        let wire = Some(Wire::new(socket, Flights::Estimated)?);
        let mut session = Self {
            shared,
            number,
            wire,
            out: Vec::new(),
            user: None,
            protected: false,
            open: false,
            view: Vec::new(),
        };
        if shared.settings.tls == Protection::Implicit {
            session.start_tls()?;
        }
        session.reply("+OK POP3 server ready");
        loop {
            if !session.wire()?.line_is_waiting() || session.out.len() > GATHERED {
                session.send()?;
            }
            let pipelined = !session.out.is_empty();
            let Some(line) = session.wire()?.read_line()? else { return Ok(()) };
            if pipelined {
                shared.tell(number, What::Pipelined);
            }
            let line = String::from_utf8_lossy(&line).into_owned();
            shared.tell(number, What::Command(line.clone()));
            let fault = session.fault_at_command();
            match fault {
                Fault::CutInsteadOf(_) => return session.fail(fault),
                Fault::StallAt(_) => {
                    session.send()?;
                    shared.tell(number, What::Faulted(fault));
                    session.wire()?.wait_for_end();
                    return Ok(());
                }
                Fault::None | Fault::CutAfterOctets(_) | Fault::CutUnanswered(_) | Fault::CutAtQuit => {}
            }
            let answered = session.out.len();
            let was_open = session.open;
            let next = session.obey(&line)?;
            if let Fault::CutUnanswered(_) = fault {
                session.out.truncate(answered);
                return session.fail(fault);
            }
            match next {
                Next::Command => session.ahead(&line, was_open)?,
                Next::Tls => {
                    session.send()?;
                    session.start_tls()?;
                }
                Next::End => {
                    session.send()?;
                    let wire = session.wire.take().ok_or_else(gone)?;
                    return wire.finish().map(drop);
                }
            }
        }
    }

    fn obey(&mut self, line: &str) -> io::Result<Next> {
        let (word, argument) = line.split_once(' ').unwrap_or((line, ""));
        let word = word.to_ascii_uppercase();
        let settings = &self.shared.settings;
        if settings.unknown.contains(&word) {
            self.reply("-ERR unknown command");
            return Ok(Next::Command);
        }
        match (word.as_str(), self.open) {
            ("CAPA", _) => self.capabilities(),
            ("QUIT", open) => {
                if self.shared.lock().fault == Fault::CutAtQuit {
                    self.cut()?;
                }
                if open {
                    self.update();
                }
                self.reply("+OK bye");
                return Ok(Next::End);
            }
            ("STLS", false) if settings.tls == Protection::Stls && !self.protected => {
                self.reply("+OK begin TLS");
                return Ok(Next::Tls);
            }
            (_, false) if settings.tls == Protection::Stls && !self.protected => {
                self.reply("-ERR say STLS first");
            }
            ("USER", false) => {
                self.user = Some(argument.to_string());
                self.reply("+OK");
            }
            ("PASS", false) => match self.user.take() {
                Some(user) => self.log_in(&user, argument),
                None => self.reply("-ERR say USER first"),
            },
            ("AUTH", false) => self.authenticate(argument)?,
            ("STAT", true) => {
                let (count, octets) = self.listed().fold((0, 0), |(n, sum), (_, m)| (n + 1, sum + m.size()));
                self.reply(&format!("+OK {count} {octets}"));
            }
            ("LIST", true) => {
                let (shared, number) = (self.shared, self.number);
                self.list(argument, |message| {
                    let trick = shared.lock().tricks.get(&message.uid).copied();
                    let size = match trick {
                        Some(Trick::Wobbles) => message.size() + number,
                        Some(Trick::CountsLf) => message.size() - message.lines(),
                        _ => message.size(),
                    };
                    size.to_string()
                });
            }
            ("UIDL", true) => self.list(argument, |message| message.uid.clone()),
            ("RETR", true) => self.retrieve(argument, None)?,
            ("TOP", true) => {
                let (number, lines) = argument.split_once(' ').unwrap_or((argument, ""));
                match lines.parse() {
                    Ok(lines) => self.retrieve(number, Some(lines))?,
                    Err(_) => self.reply("-ERR how many lines?"),
                }
            }
            ("DELE", true) => match self.find(argument) {
                Some(place) => {
                    if self.trick(&self.view[place].0) == Some(Trick::CutAtDele) {
                        self.cut()?;
                    }
                    self.view[place].1 = true;
                    self.shared.tell(self.number, What::Marked(self.view[place].0.uid.clone()));
                    self.reply("+OK deleted");
                }
                None => self.reply("-ERR no such message"),
            },
            ("NOOP", true) => self.reply("+OK"),
            ("RSET", true) => {
                self.view.iter_mut().for_each(|(_, deleted)| *deleted = false);
                self.reply("+OK");
            }
            _ => self.reply("-ERR unknown command, or not now"),
        }
        Ok(Next::Command)
    }

    /// Does with what came along with USER, or with the log-in, what is to be done with it.
    fn ahead(&mut self, line: &str, was_open: bool) -> io::Result<()> {
        let word = line.split(' ').next().unwrap_or_default().to_ascii_uppercase();
        let fate = {
            let state = self.shared.lock();
            match (word.as_str(), self.open && !was_open) {
                ("USER", _) => state.behind_user,
                (_, true) => state.behind_log_in,
                (_, false) => return Ok(()),
            }
        };
        if !self.wire()?.line_is_waiting() {
            return Ok(());
        }
        self.shared.tell(self.number, What::Along(word));
        let cut = match fate {
            Ahead::Taken => return Ok(()),
            Ahead::Lost => {
                self.wire()?.discard();
                return Ok(());
            }
            Ahead::Refused => {
                self.wire()?.read_line()?;
                self.reply("-ERR Unrecognized command");
                return Ok(());
            }
            Ahead::Late(time) => {
                self.send()?;
                thread::sleep(time);
                return Ok(());
            }
            Ahead::Closed => Cut::Fin,
            Ahead::Reset => Cut::Rst,
        };
        self.wire.take().ok_or_else(gone)?.cut(cut)?;
        Err(gone())
    }

    fn capabilities(&mut self) {
        let settings = &self.shared.settings;
        let shown = self.shared.lock().capabilities.clone();
        let shown = shown.map(|(before, after)| if self.open { after } else { before });
        let Some(known) = shown.or_else(|| settings.capabilities.clone()) else {
            return self.reply("-ERR unknown command");
        };
        let mut lines = vec!["+OK".to_string()];
        lines.extend(known);
        if settings.tls == Protection::Stls && !self.protected {
            lines.push("STLS".into());
        }
        lines.push(".".into());
        lines.iter().for_each(|line| self.reply(line));
    }

    fn list(&mut self, argument: &str, show: impl Fn(&Message) -> String) {
        if argument.is_empty() {
            let lines: Vec<String> = self.listed().map(|(n, m)| format!("{n} {}", show(m))).collect();
            self.reply("+OK");
            lines.iter().for_each(|line| self.reply(line));
            self.reply(".");
        } else {
            match self.find(argument) {
                Some(place) => self.reply(&format!("+OK {} {}", place + 1, show(&self.view[place].0))),
                None => self.reply("-ERR no such message"),
            }
        }
    }

    fn retrieve(&mut self, number: &str, body_lines: Option<usize>) -> io::Result<()> {
        let Some(place) = self.find(number) else {
            self.reply("-ERR no such message");
            return Ok(());
        };
        let message = Arc::clone(&self.view[place].0);
        let refused = self.shared.lock().refused.get(&message.uid).cloned();
        if let Some(line) = refused {
            self.reply(&line);
            return Ok(());
        }
        let top = self.trick(&message).filter(|_| body_lines.is_some());
        match top {
            Some(Trick::CutAtTop | Trick::Wobbles) => self.cut()?,
            Some(Trick::StallAtTop) => self.stall()?,
            _ => {}
        }
        let trick = if body_lines.is_none() { self.trick(&message) } else { None };
        match trick {
            Some(Trick::CutBefore | Trick::Wobbles) => self.cut()?,
            Some(Trick::StallBefore) => self.stall()?,
            Some(Trick::Unanswered) => return Ok(()),
            Some(Trick::UnansweredOnce | Trick::TwiceOnce) => {
                self.shared.lock().tricks.remove(&message.uid);
                if trick == Some(Trick::UnansweredOnce) {
                    return Ok(());
                }
                self.retrieve(number, body_lines)?;
            }
            _ => {}
        }
        self.reply(&format!("+OK {} octets", message.size()));
        if let Some(Trick::CutWithin(octets) | Trick::StallWithin(octets) | Trick::Short(octets)) = trick {
            self.out.extend_from_slice(&message.octets[..octets]);
            match trick {
                Some(Trick::CutWithin(_)) => self.cut()?,
                Some(Trick::StallWithin(_)) => self.stall()?,
                _ => {}
            }
            if octets > 0 && !message.octets[..octets].ends_with(b"\r\n") {
                self.out.extend_from_slice(b"\r\n");
            }
            self.reply(".");
            return Ok(());
        }
        let mut left = body_lines;
        let (mut in_body, mut ended) = (false, true);
        for line in message.octets.split_inclusive(|&octet| octet == b'\n') {
            if in_body && let Some(lines) = &mut left {
                if *lines == 0 {
                    break;
                }
                *lines -= 1;
            }
            in_body |= line == b"\r\n";
            ended = line.ends_with(b"\r\n");
            // RFC 1939, 3: a line that begins with the termination octet is byte-stuffed.
            if line.starts_with(b".") {
                self.out.push(b'.');
            }
            self.out.extend_from_slice(line);
            if self.out.len() > GATHERED {
                self.send()?;
            }
        }
        if !ended {
            self.out.extend_from_slice(b"\r\n");
        }
        match trick {
            Some(Trick::DotCr) => {
                self.out.extend_from_slice(b".\r");
                self.stall()?;
            }
            Some(Trick::EndsSo(end)) => {
                self.out.extend_from_slice(end.as_bytes());
                return Ok(());
            }
            Some(Trick::Glued) => self.out.truncate(self.out.len() - 2),
            _ => {}
        }
        self.reply(".");
        if top == Some(Trick::CutBehindTop) && self.wire()?.line_is_waiting() {
            self.cut()?;
        }
        match trick {
            Some(Trick::CutBehind) => self.cut()?,
            Some(Trick::OutOfStep) => self.reply("what is this"),
            _ => {}
        }
        if body_lines.is_none() {
            self.shared.tell(self.number, What::Sent(message.uid.clone()));
        }
        Ok(())
    }

    fn trick(&self, message: &Message) -> Option<Trick> {
        self.shared.lock().tricks.get(&message.uid).copied()
    }

    fn cut(&mut self) -> io::Result<()> {
        self.send()?;
        self.wire.take().ok_or_else(gone)?.cut(Cut::Fin)?;
        Err(gone())
    }

    fn stall(&mut self) -> io::Result<()> {
        self.send()?;
        self.wire()?.wait_for_end();
        Err(gone())
    }

    fn update(&mut self) {
        // RFC 1939, 6: the messages marked as deleted go now, and only now.
        for (message, _) in self.view.iter().filter(|(_, deleted)| *deleted) {
            self.shared.lock().messages.retain(|kept| !Arc::ptr_eq(kept, message));
            self.shared.tell(self.number, What::Removed(message.uid.clone()));
        }
    }

    fn listed(&self) -> impl Iterator<Item = (usize, &Message)> {
        let numbered = self.view.iter().enumerate();
        numbered.filter(|(_, (_, deleted))| !deleted).map(|(place, (message, _))| (place + 1, &**message))
    }

    fn find(&self, number: &str) -> Option<usize> {
        let place = number.parse::<usize>().ok()?.checked_sub(1)?;
        self.view.get(place).filter(|(_, deleted)| !deleted).map(|_| place)
    }

    fn reply(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn send(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let (delay, allowed) = {
            let mut state = self.shared.lock();
            let before = state.octets;
            state.octets += self.out.len() as u64;
            let allowed = match state.fault {
                Fault::CutAfterOctets(limit) if state.octets >= limit => {
                    state.fault = Fault::None;
                    Some((limit.saturating_sub(before) as usize, Fault::CutAfterOctets(limit)))
                }
                _ => None,
            };
            (state.delay, allowed)
        };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        let out = mem::take(&mut self.out);
        match allowed {
            None => self.wire()?.send(&out),
            Some((octets, fault)) => {
                self.wire()?.send(&out[..octets])?;
                self.fail(fault)
            }
        }
    }

    fn fault_at_command(&self) -> Fault {
        let mut state = self.shared.lock();
        state.commands += 1;
        match state.fault {
            Fault::CutInsteadOf(k) | Fault::CutUnanswered(k) | Fault::StallAt(k) if state.commands == k => {
                mem::take(&mut state.fault)
            }
            _ => Fault::None,
        }
    }

    fn fail(&mut self, fault: Fault) -> io::Result<()> {
        if !self.out.is_empty() {
            let out = mem::take(&mut self.out);
            self.wire()?.send(&out)?;
        }
        self.shared.tell(self.number, What::Faulted(fault));
        self.wire.take().ok_or_else(gone)?.cut(Cut::Fin)?;
        Err(gone())
    }

    fn start_tls(&mut self) -> io::Result<()> {
        let wire = self.wire.take().ok_or_else(gone)?;
        self.wire = Some(wire.start_tls(Arc::clone(&self.shared.tls))?);
        self.protected = true;
        Ok(())
    }

    fn wire(&mut self) -> io::Result<&mut Wire> {
        self.wire.as_mut().ok_or_else(gone)
    }
}

fn gone() -> io::Error {
    io::Error::other("the connection is over")
}
