//! What one session leaves to the next.

use super::*;
use crate::failure::Class;
use crate::message::FileId;

#[tokio::test]
async fn what_a_session_leaves_is_what_the_next_one_finds() {
    let (_directory, path) = directory();
    let held = Held {
        uid: uid("h"),
        ordinal: 1,
        octets: u64::MAX,
        reason: "too large".into(),
        since: 5,
        tries: 2,
        next_try: 99,
        kind: HeldKind::Refused,
        standing: Standing::Held,
        tried_at: 0,
        came: None,
    };
    let learned = Some(b"at a server".to_vec());
    let refused = LogInRefused {
        at: 7,
        count: 3,
        credentials: vec![1, 2, 3],
        said: b"[AUTH] no".to_vec(),
        class: Some(Class::Credentials),
    };
    {
        let store = open(&path);
        let memory = begin(&store).await;
        store.publishing(&memory.key, Vec::new()).await.unwrap();
        let proofs = store
            .record_listed(&memory.key, 999, vec![(7, delivery("b", 0)), (3, delivery("a", 0))])
            .await
            .unwrap();
        let proven = proofs.iter().flatten().map(|proof| (proof.index(), proof.message().uid.to_string()));
        assert_eq!(proven.collect::<Vec<_>>(), [(7, "b".to_owned()), (3, "a".to_owned())]);
        let closing = Closing {
            held: vec![held.clone()],
            learned: learned.clone(),
            login: Some(LogIn::Refused(refused.clone())),
            ..listed(1001)
        };
        store.close(&memory.key, &memory.entries, closing).await.unwrap();
    }
    let store = open(&path);
    let maildrop = store.maildrop(ALICE.into()).await.unwrap();
    let log_ins = LogIns { refused: Some(refused), ..LogIns::default() };
    let expected = Maildrop { identity: ALICE.into(), learned, log_ins, ..Maildrop::default() };
    assert_eq!(maildrop, expected);
    let memory = begin(&store).await;
    assert!(!is_fresh(&memory) && !memory.left.is_unclosed());
    assert_eq!(memory.listed_at, Some(1001));
    assert_eq!(memory.held, [held]);
    assert_eq!(memory.entries.len(), 2);
    let entry = memory.entries.find(b"a", 0).unwrap();
    let expected = Entry {
        index: 0,
        octets: 100,
        delivered_at: Some(1000),
        last_listed: None,
        delete_tries: 0,
        deleted: false,
        deleting: false,
        kind: Kind::Delivered,
        placed: false,
        blank: true,
    };
    assert_eq!(entry, expected);
}

#[tokio::test]
async fn a_maildrop_is_closed_only_by_a_session_that_published() {
    let (_directory, store) = store();
    let first = begin(&store).await;
    assert!(is_fresh(&first) && first.left.is_unclosed());
    // It could not log in.
    store.close(&first.key, &first.entries, Closing { at: 1, ..Closing::default() }).await.unwrap();
    let second = begin(&store).await;
    assert!(is_fresh(&second) && second.left.is_unclosed(), "nothing was recovered yet");
    // It listed an empty maildrop.
    store.close(&second.key, &second.entries, listed(2)).await.unwrap();
    let third = begin(&store).await;
    assert!(
        !is_fresh(&third) && third.left.is_unclosed(),
        "what comes now is new, and the target was never asked"
    );
    store.publishing(&third.key, Vec::new()).await.unwrap();
    // Killed here. The next one cannot log in, the one after it recovers.
    let fourth = begin(&store).await;
    assert_eq!(fourth.left, Left::CutOff);
    store.close(&fourth.key, &fourth.entries, listed(3)).await.unwrap();
    let fifth = begin(&store).await;
    assert!(fifth.left.is_unclosed(), "a session that did not publish closed for one that was killed");
    store.publishing(&fifth.key, Vec::new()).await.unwrap();
    store.close(&fifth.key, &fifth.entries, listed(4)).await.unwrap();
    assert!(!begin(&store).await.left.is_unclosed());
}

#[tokio::test]
async fn a_unique_id_used_again_is_another_message_first_seen_when_the_old_one_was() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    record(&store, &memory.key, 1, &["a"]).await;
    let closing = Closing { deleted: vec![(uid("a"), 0)], ..listed(2) };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    session(&store, |entries| Closing { vanished: vec![index(entries, "a")], ..listed(3) }).await;
    let memory = begin(&store).await;
    let again = Delivery { octets: 777, kind: Kind::Marked, delivered_at: None, ..delivery("a", 0) };
    store.record(&memory.key, 4, vec![again]).await.unwrap();
    let line = SeenLine {
        uid: uid("a"),
        ordinal: 0,
        octets: 777,
        first_seen: 1,
        kind: Kind::Marked,
        // `keep` counts from it: that of the old message would delete one that was not delivered.
        delivered_at: None,
        last_listed: None,
    };
    assert_eq!(store.seen(ALICE.into()).await.unwrap(), [line]);
    let entry = begin(&store).await.entries.find(b"a", 0).unwrap();
    assert_eq!((entry.delete_tries, entry.deleted), (0, false));
}

#[tokio::test]
async fn unique_ids_of_any_octets_and_ordinals_are_told_apart() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let long = [b'x'; 500];
    let odd: [(&[u8], u32); 7] =
        [(b"", 0), (b"\0", 0), (b"\xff\xfe", 0), (b"a", 0), (b"a", 1), (b"a", u32::MAX), (&long, 0)];
    let deliveries =
        odd.iter().zip(0..).map(|(&(uid, ordinal), octets)| Delivery { octets, ..delivery(uid, ordinal) });
    store.record(&memory.key, 1, deliveries.collect()).await.unwrap();
    let entries = begin(&store).await.entries;
    for (&(uid, ordinal), octets) in odd.iter().zip(0..) {
        assert_eq!(entries.find(uid, ordinal).unwrap().octets, octets);
    }
    assert_eq!(entries.find(b"a", 2), None);
    assert_eq!(entries.find(&long[..499], 0), None);
}

#[tokio::test]
async fn recording_and_releasing_end_a_hold() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let hold = |name: &str, tries| Held {
        uid: uid(name),
        ordinal: 0,
        octets: 1,
        reason: "refused".into(),
        since: 1,
        tries,
        next_try: 10,
        kind: HeldKind::Refused,
        standing: Standing::Held,
        tried_at: 0,
        came: None,
    };
    let closing = Closing { held: vec![hold("a", 1), hold("b", 1), hold("c", 1)], ..listed(1) };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    record(&store, &memory.key, 1, &["a"]).await;
    let closing = Closing { released: vec![(uid("b"), 0)], held: vec![hold("c", 2)], ..listed(2) };
    store.close(&memory.key, &memory.entries, closing).await.unwrap();
    assert_eq!(begin(&store).await.held, [hold("c", 2)]);
}

#[tokio::test]
async fn what_a_session_leaves_open_is_doubted_unless_that_session_has_closed() {
    let (_directory, store) = store();
    let is_doubted = async |name: &str| look(&store).await.entries.find(name.as_bytes(), 0).unwrap().deleting;
    let open = |name: &str| vec![Delivery { open: true, ..delivery(name, 0) }];
    let closed = begin(&store).await;
    store.publishing(&closed.key, Vec::new()).await.unwrap();
    store.record(&closed.key, 1, open("closed")).await.unwrap();
    assert!(is_doubted("closed").await);
    store.close(&closed.key, &closed.entries, listed(1)).await.unwrap();
    assert!(!is_doubted("closed").await);
    let stays = begin(&store).await;
    store.publishing(&stays.key, Vec::new()).await.unwrap();
    store.record(&stays.key, 2, open("stays open")).await.unwrap();
    let closing = Closing { stays_open: true, ..listed(2) };
    store.close(&stays.key, &stays.entries, closing).await.unwrap();
    assert!(!is_doubted("stays open").await);
    let killed = begin(&store).await;
    store.publishing(&killed.key, Vec::new()).await.unwrap();
    store.record(&killed.key, 3, open("killed")).await.unwrap();
    session(&store, |_| listed(4)).await;
    assert!(is_doubted("killed").await);
    assert!(!is_doubted("closed").await);
}

#[tokio::test]
async fn what_a_message_is_known_by_is_kept_and_can_be_changed_with_its_name() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let (whole, other) = (known(CERTAIN), known("Subject: x\r\n\r\n"));
    let file = FileId { digest: [7; 16], time: 1 << 60 };
    let delivery = Delivery {
        fingerprint: Some(whole),
        second: Some(other.identity),
        files: vec![file],
        place: Some(5),
        deleting: true,
        ..delivery("a", 0)
    };
    store.record(&memory.key, 1, vec![delivery]).await.unwrap();
    let memory = begin(&store).await;
    let entry = memory.entries.find(b"a", 0).unwrap();
    assert!(entry.deleting && entry.placed && !entry.blank);
    let detail = store.details(&memory.key, &memory.entries, vec![0]).await.unwrap().remove(0);
    let expected = Detail {
        identities: [Some(whole.identity), Some(other.identity)],
        content: Some(whole.content),
        sent: whole.octets,
        listed: 100,
        files: RecordedFiles::Files(vec![file]),
        place: Some(5),
        ..Detail::default()
    };
    assert_eq!(detail, expected);
    let detail = Detail { due_since: Some(9), tried_at: Some(8), place: None, ..expected };
    let change = Change {
        index: 0,
        uid: uid("b"),
        ordinal: 3,
        octets: 200,
        delivered_at: Some(7),
        detail: detail.clone(),
        stays: true,
    };
    session(&store, |_| Closing { changes: vec![change], ..listed(2) }).await;
    let memory = begin(&store).await;
    let entry = memory.entries.find(b"b", 3).unwrap();
    assert_eq!((entry.octets, entry.delivered_at, entry.was_deleted()), (200, Some(7), false));
    assert_eq!(store.details(&memory.key, &memory.entries, vec![0]).await.unwrap(), [detail]);
}

#[tokio::test]
async fn what_is_recorded_as_kept_is_never_proven() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let mut kept = delivery("kept", 0);
    kept.keep();
    let proofs = store.record_listed(&memory.key, 1, vec![(0, kept), (1, delivery("b", 0))]).await.unwrap();
    assert_eq!(proofs.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn a_deletion_takes_a_certain_header_with_a_verified_size_or_the_content() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let weak = "Subject: x\r\n\r\nbody\r\n";
    let deliveries = [("certain", CERTAIN), ("weak", weak)].map(|(name, text)| {
        let whole = Delivery { fingerprint: Some(known(text)), ..delivery(name, 0) };
        Delivery { octets: 4, ..whole }
    });
    store.record(&memory.key, 1, deliveries.into()).await.unwrap();
    let marked = Delivery { second: Some(known(CERTAIN).identity), ..delivery("marked", 0) };
    let discarded = Delivery { kind: Kind::Discarded, ..delivery("discarded", 0) };
    let kinds = vec![Delivery { kind: Kind::Marked, ..marked }, discarded];
    store.record(&memory.key, 1, kinds).await.unwrap();
    let memory = begin(&store).await;
    let proves = async |name: &str, seen: Seen| {
        let entry = memory.entries.find(name.as_bytes(), 0).unwrap();
        let detail = store.details(&memory.key, &memory.entries, vec![entry.index]).await.unwrap();
        let proof = memory.prove((5, entry.index), &detail[0], &seen);
        proof.is_some_and(|proof| proof.index() == 5 && proof.message().uid.as_bytes() == name.as_bytes())
    };
    let octets = CERTAIN.len() as u64;
    fn header(listed: u64, text: &str) -> Seen {
        Seen::Header { listed, header: known(text) }
    }
    fn whole(listed: u64, text: &str) -> Seen {
        Seen::Whole { listed, whole: known(text) }
    }
    assert!(proves("certain", header(octets, CERTAIN)).await);
    assert!(proves("certain", header(4, CERTAIN)).await, "as it was listed at RETR");
    let read = format!("Status: RO\r\n{CERTAIN}");
    assert!(proves("certain", header(octets + 12, &read)).await, "less what servers write");
    assert!(!proves("certain", header(octets + 12, CERTAIN)).await, "another size");
    assert!(!proves("certain", header(octets, &CERTAIN.replace("today", "now"))).await);
    assert!(!proves("certain", Seen::Listed(octets)).await, "name and size alone");
    assert!(proves("certain", whole(7, &read)).await);
    assert!(
        !proves("certain", whole(octets, &CERTAIN.replace("body", "bodz"))).await,
        "equal header and size"
    );
    assert!(!proves("weak", header(weak.len() as u64, weak)).await);
    assert!(proves("weak", whole(0, weak)).await);
    assert!(!proves("marked", whole(100, CERTAIN)).await);
    assert!(proves("discarded", Seen::Listed(100)).await);
    assert!(!proves("discarded", Seen::Listed(101)).await);
}

#[tokio::test]
async fn files_are_unclaimed_until_a_record_claims_them() {
    let (_directory, store) = store();
    let memory = begin(&store).await;
    let [one, two] = [1, 2].map(|time| FileId { digest: [7; 16], time });
    store.publishing(&memory.key, vec![Unclaimed::File(one), Unclaimed::File(two)]).await.unwrap();
    store.record(&memory.key, 1, vec![Delivery { files: vec![one], ..delivery("a", 0) }]).await.unwrap();
    assert_eq!(store.unclaimed(&memory.key).await.unwrap(), [Unclaimed::File(two)]);
    // What the user forgets is fetched again, and found.
    store.forget(ALICE.into(), vec![uid("a")]).await.unwrap();
    assert_eq!(store.unclaimed(&memory.key).await.unwrap(), [Unclaimed::File(one), Unclaimed::File(two)]);
}

#[tokio::test]
async fn status_tells_the_last_poll_and_counts_failures_in_a_row() {
    let (_directory, store) = store();
    let good = PollResult {
        account: "home".into(),
        host: "pop.example.org:995".into(),
        failure: None,
        messages: 2,
        octets: 4000,
        listed: Some(12),
        backlog: 1,
        target: Some("imap:b@h".into()),
    };
    let bad =
        PollResult { failure: Some(("network".into(), "timed out".into())), listed: None, ..good.clone() };
    session(&store, |_| Closing { poll: Some(good.clone()), ..listed(1) }).await;
    for at in [2, 3] {
        session(&store, |_| Closing { at, poll: Some(bad.clone()), ..Closing::default() }).await;
    }
    let polled = |last, last_success, failures| {
        let identity = ALICE.into();
        let maildrop = Maildrop { identity, last: Some(last), last_success, failures, ..Maildrop::default() };
        Status { maildrop, seen: 0, held: vec![] }
    };
    let expected = polled((3, bad), Some(1), 2);
    assert_eq!(store.status().await.unwrap(), std::slice::from_ref(&expected));
    assert_eq!(store.maildrops().await.unwrap(), [expected.maildrop]);
    session(&store, |_| Closing { poll: Some(good.clone()), ..listed(4) }).await;
    assert_eq!(store.status().await.unwrap(), [polled((4, good), Some(4), 0)]);
}

#[tokio::test]
async fn what_was_told_is_remembered_of_each_maildrop_until_it_is_forgotten() {
    let (_directory, store) = store();
    let told = |what: Subject, noticed_at| Told {
        what,
        since: -5,
        times: 3,
        lasts: true,
        kinds: vec![("network".into(), 7), ("of two words".into(), -9)],
        noticed_at,
    };
    let known = async || store.maildrop(ALICE.into()).await.unwrap().told;
    assert_eq!(known().await, []);
    let (polls, held) = (
        told(Subject::Polls, Some(8)),
        Told { kinds: Vec::new(), lasts: false, ..told(Subject::Held, None) },
    );
    let both = vec![(Subject::Polls, Some(polls.clone())), (Subject::Held, Some(held.clone()))];
    session(&store, |_| Closing { told: both.clone(), ..listed(1) }).await;
    store.tell("bob@pop.example.org".into(), vec![(Subject::Polls, Some(held.clone()))]).await.unwrap();
    assert_eq!(known().await, [held.clone(), polls.clone()]);
    let later = Told { noticed_at: Some(9), ..polls };
    store
        .tell(ALICE.into(), vec![(Subject::Polls, Some(later.clone())), (Subject::Held, None)])
        .await
        .unwrap();
    assert_eq!(known().await, [later]);
    session(&store, |_| Closing { told: vec![(Subject::Polls, None)], ..listed(2) }).await;
    assert_eq!(known().await, []);
}

#[tokio::test]
async fn failures_in_a_row_are_counted_and_a_stop_counts_neither_way() {
    let (_directory, store) = store();
    let ended = |class: Option<&str>| PollResult {
        account: "home".into(),
        host: "pop.example.org:995".into(),
        failure: class.map(|class| (class.into(), "words".into())),
        messages: 0,
        octets: 0,
        listed: None,
        backlog: 0,
        target: None,
    };
    let health = async || {
        let known = store.maildrop(ALICE.into()).await.unwrap();
        (known.failures, known.last_success)
    };
    assert_eq!(health().await, (0, None));
    for (at, class, failures, last_success) in [
        (1, None, 0, Some(1)),
        (2, Some("network"), 1, Some(1)),
        (3, Some("stopped"), 1, Some(1)),
        (4, Some("network"), 2, Some(1)),
        (5, Some("stopped"), 2, Some(1)),
        (6, None, 0, Some(6)),
        // The clock was ahead.
        (5, Some("network"), 1, Some(5)),
        (7, Some("network"), 2, Some(5)),
    ] {
        session(&store, |_| Closing { at, poll: Some(ended(class)), ..Closing::default() }).await;
        assert_eq!(health().await, (failures, last_success), "{at}");
    }
    // What the poll before came to is what is known.
    session(&store, |_| Closing { at: 8, poll: Some(ended(Some("stopped"))), ..Closing::default() }).await;
    let (at, last) = store.maildrop(ALICE.into()).await.unwrap().last.unwrap();
    assert_eq!((at, last.failure.unwrap().0.as_str()), (7, "network"));
}

#[test]
fn a_record_of_version_0_1_0_is_known_again_however_many_lines_the_server_has_written_since() {
    for lines in [0, 1, 7] {
        let whole = known(&("Status: RO\r\n".repeat(lines) + CERTAIN));
        // The listing counts line ends as one octet.
        let (before, written) = (CERTAIN.len() as u64 - 4, 11 * lines as u64);
        let header = Some(known(CERTAIN).header[0]);
        let detail = Detail { header, listed: before, ..Detail::default() };
        assert!(detail.is_whole(before + written, &whole), "{lines}");
        assert!(!detail.is_whole(before + written + 2, &whole), "{lines}");
    }
}
