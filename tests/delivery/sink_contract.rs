//! What every delivery target keeps, whatever a message looks like.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[cfg(target_os = "linux")]
use crate::alone::alone;
use crate::sink::{
    assert_tmp_is_empty, assert_unlocked, deliver, fill, id, maildir, maildir_files, mbox, mbox_file, names,
    open, scratch,
};
use crate::support::http_server::{HttpServer, answer};
use crate::support::imap_server::{Habits, ImapServer};
use crate::support::mail_server::MailServer;
#[cfg(target_os = "linux")]
use crate::system::{Entry, Fault, Lasts, Op, Watch};
use nix::errno::Errno;
use postrider::testing::config::{Address, CommandLine, Pipe, Recipients, Route, Sender, Target, TlsMode};
use postrider::testing::delivery::Outcome;
use postrider::testing::disk::{Disk, Limits};

/// A target that the contract holds for: one line in [`KINDS`].
struct Kind {
    target: fn(&Path) -> Target,
    /// Reads the messages that were delivered, in the order of their names, or as the target keeps them.
    delivered: fn(&Path) -> Vec<Vec<u8>>,
    /// What becomes of a text in the target.
    arrives: fn(&[u8]) -> Vec<u8>,
    /// Panics if something is there that no reader should see.
    clean: fn(&Path),
    /// How often a message may be there whose commit was dropped and that was delivered again.
    most: usize,
}

const KINDS: &[Kind] = &[
    Kind {
        target: maildir,
        delivered: |dir| maildir_files(dir).into_iter().map(|(_, octets)| octets).collect(),
        arrives: <[u8]>::to_vec,
        clean: assert_tmp_is_empty,
        most: 1,
    },
    Kind { target: mbox, delivered: mbox_file, arrives: ends_its_last_line, clean: assert_unlocked, most: 2 },
    Kind {
        target: |dir| {
            let script = dir.join("mda");
            std::fs::write(&script, "m=$(mktemp ${0%/*}/message-XXXXXX); exec cat > $m").unwrap();
            let command = CommandLine::Argv(vec!["sh".into(), script.to_str().unwrap().into()]);
            Target::Pipe(Box::new(Pipe {
                command,
                timeout: Duration::from_secs(60),
                from_line: false,
                run_as: None,
                to: None,
            }))
        },
        delivered: |dir| {
            let messages = names(dir).into_iter().filter(|name| name.starts_with("message-"));
            messages.map(|name| std::fs::read(dir.join(name)).unwrap()).collect()
        },
        arrives: <[u8]>::to_vec,
        // What a command leaves is its own.
        clean: |_| {},
        most: 2,
    },
    Kind {
        target: lmtp,
        delivered: |dir| server(dir).arrived().iter().map(|arrived| in_files(&arrived.octets)).collect(),
        // RFC 5321, 2.3.8: every line has an end, the last one, too.
        arrives: ends_its_last_line,
        clean: |_| {},
        most: 2,
    },
    Kind {
        target: |dir| crate::smtp::target(&mailbox(dir).target("")),
        delivered: |dir| mailbox(dir).inbox().iter().map(|octets| in_files(octets)).collect(),
        // RFC 9051, 4.3.1: no line end is half one.
        arrives: |text| text.iter().map(|octet| if *octet == b'\r' { b'\n' } else { *octet }).collect(),
        clean: |_| {},
        most: 2,
    },
    Kind {
        target: |dir| crate::smtp::target(&format!("{{ http: {{ url: '{}' }} }}", endpoint(dir).url("/"))),
        delivered: |dir| endpoint(dir).asked().iter().map(|asked| in_files(&asked.body)).collect(),
        arrives: <[u8]>::to_vec,
        clean: |_| {},
        most: 2,
    },
];

fn ends_its_last_line(text: &[u8]) -> Vec<u8> {
    match text {
        [] | [.., b'\n'] => text.to_vec(),
        _ => [text, b"\n"].concat(),
    }
}

/// Gives the mail server of a directory, which listens on a socket there.
fn server(dir: &Path) -> MailServer {
    static SERVERS: Mutex<BTreeMap<PathBuf, MailServer>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap();
    let start = || MailServer::on_socket(&dir.join("lmtp"), &["PIPELINING", "8BITMIME", "SIZE"]);
    servers.entry(dir.to_owned()).or_insert_with(start).clone()
}

/// Gives the IMAP server of a directory.
fn mailbox(dir: &Path) -> ImapServer {
    static SERVERS: Mutex<BTreeMap<PathBuf, ImapServer>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap();
    let capabilities = "IMAP4rev1 LITERAL+ MULTIAPPEND BINARY";
    let start = || ImapServer::start(Habits { capabilities, ..Habits::default() });
    servers.entry(dir.to_owned()).or_insert_with(start).clone()
}

/// Gives the endpoint of a directory.
fn endpoint(dir: &Path) -> HttpServer {
    static SERVERS: Mutex<BTreeMap<PathBuf, HttpServer>> = Mutex::new(BTreeMap::new());
    let mut servers = SERVERS.lock().unwrap();
    servers.entry(dir.to_owned()).or_insert_with(|| HttpServer::start(|_| answer(204))).clone()
}

fn lmtp(dir: &Path) -> Target {
    server(dir);
    Target::Lmtp(Box::new(postrider::testing::config::MailServer {
        address: Address::Socket(dir.join("lmtp")),
        route: Route::bare(TlsMode::None),
        login: None,
        to: Recipients::List(vec!["bob@example.org".into()]),
        from: Sender::Keep,
    }))
}

/// Makes the line ends those of files.
fn in_files(octets: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(octets.len());
    for octet in octets {
        if *octet == b'\n' && text.last() == Some(&b'\r') {
            text.pop();
        }
        text.push(*octet);
    }
    text
}

/// A message's name, as the server sent it (unstuffed), as it is to be delivered.
type Row = (&'static str, Vec<u8>, Vec<u8>);

fn messages() -> Vec<Row> {
    let same = |name, octets: &[u8]| (name, octets.to_vec(), octets.to_vec());
    let crlf = |name, octets: &[u8]| {
        let text: Vec<u8> = octets.to_vec();
        let mut sent = Vec::with_capacity(text.len());
        for octet in &text {
            if *octet == b'\n' {
                sent.push(b'\r');
            }
            sent.push(*octet);
        }
        (name, sent, text)
    };
    let line: Vec<u8> = (0..=u8::MAX).filter(|octet| !b"\r\n".contains(octet)).collect();
    let long: Vec<u8> = line.iter().copied().cycle().take(1 << 20).collect();
    let large: Vec<u8> =
        (0..5u32 << 20).map(|at| if at % 77 == 76 { b'\n' } else { (at / 77) as u8 | 0x10 }).collect();
    vec![
        same("0 octets", b""),
        crlf("one line end", b"\n"),
        crlf("a usual one", b"From: a@example.org\nSubject: x\n\nHello,\n\n.\n..\nFrom here\n"),
        crlf("header only", b"Subject: x\n"),
        crlf("no header", b"\nbody\n"),
        crlf("no last newline", b"Subject: x\n\nbody"),
        crlf("NUL and 8-bit", b"Subject: \xff\xfe\n\n\0\0\x1a\x04\x80\n"),
        same("bare CR", b"a\rb\r\rc\r"),
        same("bare LF", b"a\nb\n\nc\n"),
        ("CR before CRLF", b"a\r\r\nb\r\r\r\n\r".to_vec(), b"a\r\nb\r\r\n\r".to_vec()),
        same("a line of 1 MiB", &long),
        crlf("just under what is kept in memory", &large[..65_000]),
        crlf("just over it", &large[..66_000]),
        crlf("5 MiB", &large),
    ]
}

#[tokio::test]
async fn every_message_arrives_octet_for_octet_however_it_was_sliced() {
    for kind in KINDS {
        for (name, sent, expected) in messages() {
            let dir = scratch();
            let disk = Disk::new();
            let sink = open(&(kind.target)(dir.path()), &disk).await.unwrap();
            let splits: Vec<usize> = if sent.len() <= 64 { (0..=sent.len()).collect() } else { Vec::new() };
            let sizes: &[usize] =
                if sent.len() <= 100_000 { &[1, 7, 1460, 16_384] } else { &[1460, 16_384, 300_001] };
            let mut finished = Vec::new();
            for slices in splits
                .iter()
                .map(|at| vec![&sent[..*at], &sent[*at..]])
                .chain(sizes.iter().map(|size| sent.chunks(*size).collect()))
                .chain([vec![&sent[..]]])
            {
                let mut draft = sink.draft(id(&format!("{name} {}", finished.len())));
                fill(&mut draft, slices).await.unwrap();
                finished.push(draft.finish());
            }
            let count = finished.len();
            assert_eq!(sink.commit(finished).await.unwrap(), vec![Outcome::Delivered; count], "{name}");
            let delivered = (kind.delivered)(dir.path());
            assert_eq!(delivered.len(), count, "{name}");
            let expected = (kind.arrives)(&expected);
            for octets in delivered {
                assert!(octets == expected, "{name}: {} octets, not {}", octets.len(), expected.len());
            }
            disk.settled().await;
            (kind.clean)(dir.path());
        }
    }
}

#[tokio::test]
async fn a_message_that_is_dropped_before_its_commit_leaves_no_trace() {
    for kind in KINDS {
        let dir = scratch();
        let disk = Disk::new();
        let sink = open(&(kind.target)(dir.path()), &disk).await.unwrap();
        for (name, sent, _) in messages() {
            let mut draft = sink.draft(id(name));
            draft.write(&sent);
            drop(draft);
            let mut draft = sink.draft(id(name));
            fill(&mut draft, sent.chunks(5000)).await.unwrap();
            drop(draft);
            let mut draft = sink.draft(id(name));
            fill(&mut draft, sent.chunks(5000)).await.unwrap();
            drop(draft.finish());
            let mut draft = sink.draft(id(name));
            draft.write(&sent);
            drop(draft.finish());
        }
        disk.settled().await;
        assert!((kind.delivered)(dir.path()).is_empty());
        (kind.clean)(dir.path());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_finished_message_that_is_dropped_while_its_last_part_is_written_leaves_no_trace() {
    let test =
        "sink_contract::a_finished_message_that_is_dropped_while_its_last_part_is_written_leaves_no_trace";
    let Some(root) = alone(test) else { return };
    for kind in KINDS {
        let dir = tempfile::tempdir_in(&root).unwrap();
        let target = (kind.target)(dir.path());
        let watch = Watch::of(&root);
        let disk = Disk::new();
        let sink = open(&target, &disk).await.unwrap();
        for round in 0..200 {
            let mut draft = sink.draft(id(&round.to_string()));
            let before = watch.look(<[Entry]>::len);
            {
                let _held_up = watch.hold_up();
                draft.write(&[b'x'; 70_000]);
                drop(draft.finish());
            }
            // Ends at whatever moment after the part is written; nothing of this task runs until then.
            let written = |entry: &Entry| matches!(entry.op, Op::Write { .. });
            while !watch.look(|entries| entries[before..].iter().any(written)) {
                std::thread::yield_now();
            }
            (0..round % 20).for_each(|_| std::thread::yield_now());
            disk.settled().await;
            (kind.clean)(dir.path());
        }
        assert!((kind.delivered)(dir.path()).is_empty());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_draft_whose_part_could_not_be_written_says_so_until_it_is_dropped() {
    let Some(root) =
        alone("sink_contract::a_draft_whose_part_could_not_be_written_says_so_until_it_is_dropped")
    else {
        return;
    };
    for kind in KINDS {
        let dir = tempfile::tempdir_in(&root).unwrap();
        let target = (kind.target)(dir.path());
        open(&target, &Disk::new()).await.unwrap();
        let part_written = async || {
            let disk = Disk::new();
            let sink = open(&target, &disk).await.unwrap();
            let mut draft = sink.draft(id("1"));
            draft.write(&[b'x'; 70_000]);
            disk.settled().await;
            (sink, disk, draft)
        };
        let writes = |entry: &Entry| matches!(entry.op, Op::Write { .. });
        let at = {
            let watch = Watch::of(&root);
            let (_sink, disk, draft) = part_written().await;
            let at = watch.look(|entries| entries.iter().position(writes));
            drop(draft);
            disk.settled().await;
            at.expect("the part was written")
        };
        let watch = Watch::failing(&root, Fault { at, errno: Errno::EIO, lasts: Lasts::Once });
        let (sink, _disk, mut draft) = part_written().await;
        let fails = |entry: &Entry| writes(entry) && entry.error == Some(Errno::EIO);
        assert!(watch.look(|entries| entries.iter().any(fails)));
        for _ in 0..2 {
            draft.write(b"more");
            assert!(draft.is_full(), "the caller would go on receiving for nothing");
            let error = draft.flush().await.unwrap_err();
            assert!(error.to_string().contains("Input/output error"), "{error}");
        }
        let error = sink.commit(vec![draft.finish()]).await.unwrap_err();
        assert!(error.to_string().contains("Input/output error"), "{error}");
        (kind.clean)(dir.path());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_flush_or_commit_that_is_dropped_and_begun_again_loses_nothing() {
    for kind in KINDS {
        let dir = scratch();
        let target = (kind.target)(dir.path());
        let watch = Watch::of(dir.path());
        let disk = Disk::within(Limits { workers: 1, group: 1, octets: 100_000 });
        let sink = open(&target, &disk).await.unwrap();
        let (_, sent, expected) = messages().pop().unwrap();
        let mut draft = sink.draft(id("1"));
        let mut broken_off = 0;
        for slice in sent.chunks(16_384) {
            let mut held_up = Some(watch.hold_up());
            draft.write(slice);
            while draft.is_full() {
                match pin!(draft.flush()).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => broken_off += 1,
                    Poll::Ready(flushed) => flushed.unwrap(),
                }
                held_up = None;
                std::thread::yield_now();
            }
            drop(held_up);
        }
        assert!(broken_off > 0, "no flush had to wait");
        assert_eq!(sink.commit(vec![draft.finish()]).await.unwrap(), [Outcome::Delivered]);
        assert!((kind.delivered)(dir.path()) == [(kind.arrives)(&expected)]);
        // A commit that is dropped counts for nothing, but recovery finds what it did.
        let mut draft = sink.draft(id("2"));
        draft.write(b"2");
        {
            let _held_up = watch.hold_up();
            let finished = vec![draft.finish()];
            assert!(pin!(sink.commit(finished)).poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        disk.settled().await;
        sink.recover(None).await.unwrap();
        let again = deliver(&sink, &[("2", b"2")]).await.unwrap();
        assert!(matches!(again[..], [Outcome::Delivered | Outcome::AlreadyThere]));
        disk.settled().await;
        let times = (kind.delivered)(dir.path()).len() - 1;
        assert!((1..=kind.most).contains(&times), "delivered {times} times");
        (kind.clean)(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_messages_at_once_get_by_with_little_memory() {
    for kind in KINDS {
        let dir = scratch();
        let limits = Limits { workers: 2, group: 4, octets: 50_000 };
        let disk = Disk::within(limits);
        let sink = open(&(kind.target)(dir.path()), &disk).await.unwrap();
        let tasks: Vec<_> = (0..40u8)
            .map(|number| {
                let sink = sink.clone();
                tokio::spawn(async move {
                    let octets = vec![number; 300_000 * usize::from(number % 3) + 3000];
                    deliver(&sink, &[(&format!("{number}"), &octets)]).await.unwrap()
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), [Outcome::Delivered]);
        }
        let mut delivered = (kind.delivered)(dir.path());
        delivered.sort();
        assert_eq!(delivered.len(), 40);
        let arrived = |number: u8| (kind.arrives)(&vec![number; 300_000 * usize::from(number % 3) + 3000]);
        let mut sent: Vec<_> = (0..40).map(arrived).collect();
        sent.sort();
        for (number, octets) in delivered.into_iter().enumerate() {
            assert!(octets == sent[number], "{number}");
        }
        (kind.clean)(dir.path());
    }
}
