//! What the tests are made with: servers that obey, servers that lie, real servers, and the program itself.
//!
//! Every server listens on a free loopback port and ends with its owner, so tests may run side by side.
//!
//! - [`scripted`]: plays a transcript, knows no POP3, counts round trips.
//! - [`maildrop`]: a small honest POP3 server in memory with faults that can be set.
//! - [`mail_server`]: a small honest SMTP and LMTP server in memory; [`odd_mail_server`]: one with peculiarities.
//! - [`imap_server`]: an IMAP server in memory, with peculiarities.
//! - [`gmail_server`]: Gmail's API in memory.
//! - [`http_server`]: keeps what it is sent over HTTP, and misbehaves as it is told.
//! - [`authorization_server`]: gives tokens, and refuses what a real one would.
//! - [`dialogue`]: an account and a transcript or an honest server for it.
//! - [`dovecot`], [`gnu_pop3d`], [`courier`], [`cyrus`], [`popa3d`], [`solid_pop3d`]: real POP3 servers, and [`proxies`]
//!   before them; [`real_server`] says what they have in common. [`mta`]: Postfix and Exim; [`chrooted_mta`]:
//!   OpenSMTPD, Courier's esmtpd, sendmail.
//! - [`chroot`], [`mbox_file`]: what some of them stand in and on.
//! - [`relay`]: stands between a client and a server, and stops passing octets on, or cuts the connection, at a chosen one.
//! - [`mounted`]: a small disk that can be filled up.
//! - [`namespace`]: a network of the test's own, with names, a name server and every port; [`web`]: HTTPS servers in it.
//! - [`poller`]: sessions inside the test's own process.
//! - [`postgres`]: a real PostgreSQL; [`provider`]: many maildrops behind one port, for those who share it.
//! - [`reader`]: a slow, simple POP3 client to learn independently what a server sends.
//! - [`postrider`]: the built program in a home of its own; [`daemon`]: the same as a daemon.

#![allow(dead_code, reason = "each test program compiles all of this and uses its part")]

pub mod authorization_server;
pub mod certificate;
pub mod chroot;
pub mod chrooted_mta;
pub mod courier;
pub mod cyrus;
pub mod daemon;
pub mod dialogue;
pub mod dovecot;
pub mod gmail_server;
pub mod gnu_pop3d;
pub mod http_server;
pub mod imap_server;
pub mod mail_server;
pub mod maildrop;
pub mod mails;
pub mod mbox_file;
pub mod mounted;
pub mod mta;
pub mod namespace;
pub mod odd_mail_server;
pub mod poller;
pub mod popa3d;
pub mod postgres;
pub mod postrider;
pub mod process;
pub mod provider;
pub mod proxies;
pub mod reader;
pub mod real_server;
pub mod relay;
pub mod scripted;
pub mod solid_pop3d;
pub mod transcript;
pub mod web;
pub mod wire;
