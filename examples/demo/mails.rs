//! The mail that waits in the demo's maildrop; lines end LF here and CRLF on the wire.

/// The messages, oldest first.
pub const SAMPLES: &[&str] = &[
    "\
Return-Path: <maria@example.org>
Received: from mail.example.org (mail.example.org [192.0.2.10])
\tby mx.example.net with ESMTPS id 4RkX2b; Mon, 02 Nov 2026 08:14:03 +0000
Date: Mon, 2 Nov 2026 09:14:01 +0100
From: Maria Lindqvist <maria@example.org>
To: alice@example.net
Subject: Minutes of Friday's meeting
Message-ID: <20261102081401.3c1@mail.example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Hello Alice,

the minutes are below. Please send corrections until Wednesday.

1. The budget was accepted with one change (travel).
2. The server room moves in January.

Maria
",
    "\
Return-Path: <jonas@example.org>
Date: Mon, 2 Nov 2026 12:40:55 +0100
From: =?utf-8?q?Jonas_Gr=C3=BCnwald?= <jonas@example.org>
To: alice@example.net
Subject: Gruesse aus Malmoe
Message-ID: <f3a9.1102@example.org>
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Hej Alice,

schöne Grüße aus Malmö; es regnet, aber der Kaffee ist gut. ☕

Jonas
",
    "\
Return-Path: <root@build.example.org>
Date: Tue, 3 Nov 2026 02:00:17 +0000
From: Cron <root@build.example.org>
To: alice@example.net
Subject: nightly build: 2 warnings
Message-ID: <20261103020017.9@build.example.org>

Lines that begin with a dot travel doubled, and arrive as they were:

.profile:3: warning: unused variable
..
.

finished in 312 s
",
    "\
Return-Path: <>
Date: Tue, 3 Nov 2026 07:31:40 +0000
From: Mail Delivery System <MAILER-DAEMON@mx.example.net>
To: alice@example.net
Subject: Undelivered Mail Returned to Sender
Message-ID: <4RmC11.bounce@mx.example.net>
Auto-Submitted: auto-replied

This is the mail system at host mx.example.net.

<old.address@example.com>: host mx.example.com[192.0.2.77] said:
    550 5.1.1 no such user here (in reply to RCPT TO command)
",
    "\
Return-Path: <shop@example.com>
Date: Tue, 3 Nov 2026 10:05:12 +0000
From: Example Bookshop <shop@example.com>
To: alice@example.net
Subject: Your order 10-4471 was sent
Message-ID: <order-4471@example.com>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=\"=_b1\"

--=_b1
Content-Type: text/plain; charset=us-ascii

Two books are on their way to you. They should arrive on Thursday.
--=_b1
Content-Type: text/html; charset=us-ascii

<p>Two books are <b>on their way</b> to you. They should arrive on Thursday.</p>
--=_b1--
",
];

/// Gives the digests of a mailing list: a thousand messages of one to some ten KiB, no two alike.
pub fn list() -> impl Iterator<Item = String> {
    (1..=1000_usize).map(|number| {
        // Sizes as mail has them: most are short, some are long.
        let lines = if number % 9 == 0 { 40 + number % 160 } else { 8 + number % 30 };
        let line = "And so it goes on, about as long as what people write to lists, with a dot:\n.\n";
        format!(
            "Date: {day:02} Oct 2026 {hour:02}:17:{second:02} +0000\nFrom: list@example.org\nTo: alice@example.net\n\
             Subject: [list] digest {number}\nMessage-ID: <digest-{number}@example.org>\n\nDigest {number} of the list.\n\n{}",
            line.repeat(lines),
            day = 1 + number % 28,
            hour = number % 24,
            second = number % 60,
        )
    })
}
