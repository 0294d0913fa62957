//! What the protocol costs without a network: unstuffing, replies, listings.

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use postrider::testing::line::Protocol;
use postrider::testing::message::{Fingerprinter, ListingBuilder};
use postrider::testing::pop3::{
    Client, Command, LineEnd, MessageNumber, Piece, Unstuffer, parse_size, parse_unique_id,
};

fn main() {
    divan::main();
}

/// A body of about a MiB in lines of this length, one in twenty stuffed with a dot.
fn stuffed(line: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for i in 0..(1 << 20) / line {
        if i % 20 == 0 {
            body.extend_from_slice(b"..");
        }
        body.extend(std::iter::repeat_n(b'x', line - 2));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b".\r\n");
    body
}

#[divan::bench(args = [76, 998, 65_536])]
fn unstuff(bencher: Bencher<'_, '_>, line: usize) {
    let body = stuffed(line);
    bencher.counter(BytesCount::new(body.len())).bench(|| {
        let mut unstuffer = Unstuffer::new(LineEnd::Crlf);
        let (mut rest, mut octets) = (&body[..], 0);
        loop {
            let (consumed, piece) = unstuffer.next(black_box(rest));
            match piece {
                Piece::Octets(range) => octets += range.len(),
                Piece::End | Piece::More => return octets,
            }
            rest = &rest[consumed..];
        }
    });
}

#[divan::bench]
fn retr_through_the_client(bencher: Bencher<'_, '_>) {
    let body = stuffed(76);
    let input = [&b"+OK\r\n+OK\r\n"[..], &body].concat();
    bencher.counter(BytesCount::new(input.len())).bench(|| {
        let mut client = Client::new();
        client.send(&Command::Retr(MessageNumber(1))).expect("RETR can be sent");
        let (mut start, mut events) = (0, 0);
        while let Ok(Some((consumed, event))) = client.incoming(black_box(&input[start..])) {
            start += consumed;
            events += usize::from(matches!(event, postrider::testing::pop3::Event::Octets { .. }));
        }
        events
    });
}

#[divan::bench(args = [10_000, 100_000])]
fn uidl_and_list_lines(bencher: Bencher<'_, '_>, messages: usize) {
    let uidl: Vec<String> = (1..=messages).map(|i| format!("{i} {i:08x}65d0c3f1")).collect();
    let list: Vec<String> = (1..=messages).map(|i| format!("{i} {}", 1000 + i)).collect();
    bencher.counter(ItemsCount::new(messages)).bench(|| {
        let mut builder = ListingBuilder::default();
        uidl.iter().for_each(|line| builder.unique_id(parse_unique_id(line.as_bytes())));
        list.iter().for_each(|line| builder.size(parse_size(line.as_bytes())));
        builder.build().len()
    });
}

#[divan::bench]
fn fingerprint(bencher: Bencher<'_, '_>) {
    let message =
        [b"Header-Name: of about forty octets, value\r\n".repeat(20), b"\r\nbody\r\n".repeat(500)].concat();
    bencher.counter(ItemsCount::new(1usize)).bench(|| {
        let mut fingerprinter = Fingerprinter::new();
        fingerprinter.write(black_box(&message));
        fingerprinter.finish()
    });
}
