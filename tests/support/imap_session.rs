//! One session of the IMAP server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::{Drop, Habits, ImapServer, Kept, Odd, Then};

pub(super) struct Session {
    lines: BufReader<TcpStream>,
    out: TcpStream,
    server: ImapServer,
    /// The folder that is looked at.
    selected: String,
    /// Answers that it owes.
    owed: Vec<String>,
}

type Served = std::io::Result<()>;

fn dropped() -> std::io::Error {
    std::io::ErrorKind::ConnectionAborted.into()
}

impl Session {
    pub(super) fn serve(stream: TcpStream, server: ImapServer) -> Served {
        let (habits, appends) = {
            let mut shared = server.lock();
            shared.connections += 1;
            (shared.habits.clone(), shared.appends)
        };
        if habits.down_after.is_some_and(|most| appends >= most) {
            return Ok(());
        }
        thread::sleep(habits.opening_takes);
        let out = stream.try_clone()?;
        let mut session =
            Self { lines: BufReader::new(stream), out, server, selected: String::new(), owed: Vec::new() };
        match habits.odd.filter(|odd| odd.at == "GREETING") {
            Some(odd) => session.say_odd(odd, "")?,
            None => session
                .say(habits.greeting.unwrap_or("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] hello"))?,
        }
        while let Some(line) = session.line()? {
            let Some((tag, command)) = line.split_once(' ') else { return Ok(()) };
            session.server.lock().commands.push(command.to_owned());
            let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
            session.obey(tag, verb, rest)?;
        }
        Ok(())
    }

    fn obey(&mut self, tag: &str, verb: &str, rest: &str) -> Served {
        let habits = self.server.lock().habits.clone();
        if let Some(odd) = habits.odd.filter(|odd| odd.at == verb) {
            return self.say_odd(odd, tag);
        }
        match verb {
            "CAPABILITY" => self.say(&format!("* CAPABILITY {}\r\n{tag} OK", habits.capabilities)),
            "AUTHENTICATE" | "LOGIN" => {
                if let Some(bye) = habits.log_in.filter(|no| no.starts_with('*')) {
                    self.say(bye)?;
                    return Err(dropped());
                }
                let revoked = self.server.connections() >= habits.refused_from;
                let no = habits.log_in.or(revoked.then_some("NO [AUTHENTICATIONFAILED] revoked"));
                let no = no.map(|no| format!("{tag} {no}"));
                let yes = format!("{tag} OK [CAPABILITY {}] in", habits.capabilities);
                self.say(&no.unwrap_or(yes))
            }
            "NAMESPACE" => {
                let (prefix, separator) = habits.namespace;
                self.say(&format!("* NAMESPACE ((\"{prefix}\" \"{separator}\")) NIL NIL\r\n{tag} OK"))
            }
            "LIST" if rest.starts_with("(SPECIAL-USE)") => {
                let all = "* LIST (\\HasNoChildren \\All) \"/\" \"[Gmail]/All Mail\"\r\n";
                self.say(&format!("{}{tag} OK", if habits.all_mail { all } else { "" }))
            }
            "LIST" => self.say(&format!("* LIST (\\Noselect) \"{}\" \"\"\r\n{tag} OK", habits.namespace.1)),
            "STATUS" | "EXAMINE" => {
                let name = quoted(rest);
                if verb == "EXAMINE" {
                    self.selected.clone_from(&name);
                }
                let shared = self.server.lock();
                let is_there = shared.folders.contains_key(&name) || habits.all_mail && name.contains("/All");
                let (next, validity) = (shared.next, habits.validity);
                drop(shared);
                if let Some(limit) = habits.limit.filter(|_| rest.ends_with("(APPENDLIMIT)")) {
                    return self.say(&format!("* STATUS \"{name}\" (APPENDLIMIT {limit})\r\n{tag} OK done"));
                }
                if !is_there {
                    return self.say(&format!("{tag} NO [NONEXISTENT] no such folder"));
                }
                if let Some(no) = habits.examine.filter(|_| verb == "EXAMINE") {
                    return self.say(&format!("{tag} {no}"));
                }
                let data = format!("* STATUS \"{name}\" (UIDVALIDITY {validity} UIDNEXT {next})\r\n");
                self.say(&format!("* OK [ALERT] beware\r\n{data}{tag} OK done"))
            }
            "CREATE" => {
                self.server.lock().folders.insert(quoted(rest), Vec::new());
                self.say(&format!("{tag} OK made"))
            }
            "APPEND" => self.append(tag, rest, &habits),
            "UID" => self.fetch(tag, rest, &habits),
            "LOGOUT" => {
                self.say(&format!("* BYE bye\r\n{tag} OK"))?;
                Err(dropped())
            }
            _ => self.say(&format!("{tag} OK")),
        }
    }

    /// Takes the messages of one command, all of them or none.
    fn append(&mut self, tag: &str, rest: &str, habits: &Habits) -> Served {
        let folder = quoted(rest);
        let mut words = rest[folder.len() + 2..].to_owned();
        let (mut taken, mut refused, mut points) = (Vec::new(), None, Vec::new());
        while !words.is_empty() {
            let number = {
                let mut shared = self.server.lock();
                shared.appends += 1;
                shared.appends
            };
            let point = habits.drops.filter(|(at, _)| *at == number).map(|(_, point)| point);
            points.extend(point);
            let open = words.rfind('{').expect("a literal");
            let digits = words[open + 1..].trim_end_matches('}');
            let length: usize = digits.trim_end_matches('+').parse().expect("a length");
            if point == Some(Drop::BeforeLiteral) || habits.down_after.is_some_and(|most| number > most) {
                return Err(dropped());
            }
            if !digits.ends_with('+') {
                if let Some(no) = habits.append.filter(|answer| answer.starts_with("NO")) {
                    return self.say(&format!("{tag} {no}"));
                }
                self.say("+ go on")?;
            }
            let mut octets = vec![0; if point == Some(Drop::InLiteral) { length / 2 } else { length }];
            self.lines.read_exact(&mut octets)?;
            if matches!(point, Some(Drop::InLiteral | Drop::AfterLiteral)) {
                return Err(dropped());
            }
            let announced = words[..open].trim_end_matches('~').trim().to_owned();
            words = self.line()?.ok_or_else(dropped)?;
            let text = String::from_utf8_lossy(&octets).into_owned();
            let of = habits.append_of.filter(|(needle, _)| text.contains(needle)).map(|(_, answer)| answer);
            refused = refused.or(of).or(habits.append);
            if habits.swallows.is_some_and(|needle| text.contains(needle)) {
                self.server.change(|habits| habits.swallows = None);
                return Ok(());
            }
            if habits.rewrites {
                octets = text.replacen(": ", ":\r\n\t ", 20).into_bytes();
                octets.splice(0..0, *b"X-Added: by the server\r\n");
            }
            octets.splice(0..0, habits.adds.bytes());
            if habits.munges {
                let header = octets.windows(4).position(|end| end == b"\r\n\r\n").unwrap_or(octets.len());
                octets[..header].iter_mut().filter(|octet| !octet.is_ascii()).for_each(|octet| *octet = b'X');
            }
            taken.push((octets, announced));
        }
        if let Some(no) = refused {
            if no.starts_with('*') {
                self.say(no)?;
                return Err(dropped());
            }
            return self.say(&format!("{tag} {no}"));
        }
        while let Some(words) = habits.babbles {
            self.say(words)?;
            thread::sleep(Duration::from_millis(50));
        }
        if points.contains(&Drop::Late) || points.contains(&Drop::Silent) {
            return self.keep_later(folder, taken, points.contains(&Drop::Silent));
        }
        let mut uid = None;
        for (octets, announced) in taken {
            uid = self.server.lock().keep(&folder, octets, announced);
        }
        let Some(uid) = uid else { return self.say(&format!("{tag} NO [TRYCREATE] no such folder")) };
        if points.contains(&Drop::Renewed) {
            self.server.lock().renew(&folder);
        }
        if points.contains(&Drop::BeforeOk) || points.contains(&Drop::Renewed) {
            return Err(dropped());
        }
        let answer = format!("* {uid} EXISTS\r\n{tag} OK [APPENDUID {} {uid}] done", habits.validity);
        if habits.answers_late {
            self.owed.push(answer);
            return self.answer_unless_more_comes();
        }
        self.say(&answer)?;
        if points.contains(&Drop::AfterOk) { Err(dropped()) } else { Ok(()) }
    }

    fn answer_unless_more_comes(&mut self) -> Served {
        self.out.set_read_timeout(Some(Duration::from_millis(300)))?;
        let comes = self.lines.fill_buf().is_ok_and(|octets| !octets.is_empty());
        self.out.set_read_timeout(None)?;
        if !comes {
            let mut shared = self.server.lock();
            shared.most_owed = shared.most_owed.max(self.owed.len());
            drop(shared);
            let owed = std::mem::take(&mut self.owed);
            self.say(&owed.join("\r\n"))?;
        }
        Ok(())
    }

    /// Keeps messages once a second and more is over, after a connection that ends before, or stays.
    fn keep_later(&mut self, folder: String, taken: Vec<(Vec<u8>, String)>, stays: bool) -> Served {
        let server = self.server.clone();
        let keeping = thread::spawn(move || {
            thread::sleep(Duration::from_millis(if stays { 4000 } else { 1000 }));
            for (octets, announced) in taken {
                server.lock().keep(&folder, octets, announced);
            }
        });
        if stays {
            let _ = keeping.join();
            while self.line()?.is_some() {}
        }
        Err(dropped())
    }

    fn fetch(&mut self, tag: &str, rest: &str, habits: &Habits) -> Served {
        thread::sleep(habits.fetch_takes);
        let mut words = rest.split(' ').skip(1);
        let uids = words.next().expect("UIDs");
        let ranges: Vec<(u32, u32)> = uids
            .split(',')
            .map(|range| {
                let (first, last) = range.split_once(':').unwrap_or((range, range));
                (first.parse().expect("a UID"), last.parse().unwrap_or(u32::MAX))
            })
            .collect();
        let is_seen = |name: &str| name == self.selected || self.selected.contains("/All");
        let inbox: Vec<Kept> = {
            let shared = self.server.lock();
            let seen = shared.folders.iter().filter(|(name, _)| is_seen(name));
            seen.flat_map(|(_, kept)| kept.clone()).collect()
        };
        let highest = inbox.iter().map(|message| message.uid).max().unwrap_or(0);
        for message in inbox {
            let is_meant = ranges.iter().any(|(first, last)| {
                (*first..=*last).contains(&message.uid) || *last == u32::MAX && message.uid == highest
            });
            if !is_meant || habits.hides {
                continue;
            }
            let (size, uid) = (message.octets.len(), message.uid);
            let date = message.words.split('"').nth(1).unwrap_or("30-Nov-2025 12:00:00 +0000");
            let date = if rest.contains("INTERNALDATE") {
                format!("INTERNALDATE \"{date}\" ")
            } else {
                String::new()
            };
            let (section, name) = match rest.contains("HEADER.FIELDS") {
                true => (telling(&message.octets), "HEADER.FIELDS (DATE)"),
                false => (message.octets, ""),
            };
            self.out.write_all(
                format!(
                    "* {uid} FETCH (UID {uid} {date}RFC822.SIZE {size} BODY[{name}] {{{}}}\r\n",
                    section.len()
                )
                .as_bytes(),
            )?;
            self.out.write_all(&section)?;
            self.say(&format!("{})", habits.items))?;
        }
        self.say(&format!("{tag} {}", habits.fetch.unwrap_or("OK done")))
    }

    fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.lines.read_until(b'\n', &mut line)? == 0 || !line.ends_with(b"\r\n") {
            return Ok(None);
        }
        Ok(Some(String::from_utf8(line).expect("commands are text").trim_end().to_owned()))
    }

    fn say_odd(&mut self, Odd { says, then, .. }: Odd, tag: &str) -> Served {
        self.out.write_all(says.replace("TAG", tag).as_bytes())?;
        match then {
            Then::GoesOn => Ok(()),
            Then::Closes => Err(dropped()),
            Then::Repeats(more) => loop {
                self.out.write_all(more.repeat(100).as_bytes())?;
                thread::sleep(Duration::from_millis(20));
            },
        }
    }

    fn say(&mut self, line: &str) -> Served {
        self.out.write_all(format!("{line}\r\n").as_bytes())
    }
}

impl std::ops::Drop for Session {
    fn drop(&mut self) {
        let _ = self.out.shutdown(std::net::Shutdown::Both);
    }
}

/// Reads the quoted string with which arguments begin; there is nothing to unquote in the tests.
fn quoted(rest: &str) -> String {
    rest.strip_prefix('"').and_then(|rest| rest.split('"').next()).expect("a quoted string").to_owned()
}

/// Gives the fields that were asked for, as a server does: unchanged and in the order of the message.
fn telling(octets: &[u8]) -> Vec<u8> {
    const NAMES: [&[u8]; 6] = [b"message-id", b"date", b"from", b"subject", b"received", b"delivered-to"];
    let mut section = Vec::new();
    let mut is_meant = false;
    for line in octets.split_inclusive(|octet| *octet == b'\n').take_while(|line| *line != b"\r\n") {
        if !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|octet| *octet == b':').next().unwrap_or_default().to_ascii_lowercase();
            is_meant = NAMES.contains(&&*name);
        }
        if is_meant {
            section.extend_from_slice(line);
        }
    }
    section.extend_from_slice(b"\r\n");
    section
}
