//! What all real servers have in common, so that the same is asked of each.

use super::reader::Reader;

/// The only user's name on most of them.
pub const USER: &str = "u1";
/// The user's password.
pub const PASSWORD: &str = "correct horse";
/// The password as crypt(3) makes it, with SHA-512.
pub const CRYPTED: &str =
    "$6$postrider$4ZI66wgSdHXD7WiC1tzH9oNo0V5k7zGeWZCZykKOs.PHxjg1yj0SW2LErWzvjcS9AzNzZ4fGijIQdn8OTwaOr0";

/// A port, and what is said of TLS there as the configuration says it.
pub type Way = (u16, &'static str);

/// A real server with one maildrop, or a proxy before one.
pub trait RealServer {
    /// Starts it; panics if it is not installed or does not start.
    fn start() -> Self;

    /// Gives its ports.
    fn ways(&self) -> Vec<Way>;

    /// Gives the ways of logging in that it takes, as `auth` names them.
    fn mechanisms(&self) -> &'static [&'static str];

    /// Gives the authority that signed its certificate.
    fn authority(&self) -> &str;

    /// Gives the maildrop's user.
    fn user(&self) -> &'static str {
        USER
    }

    /// Gives the user's password.
    fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Leaves out what the server would not store, or would show otherwise at each session.
    fn stores(&self, _message: &[u8]) -> bool {
        true
    }

    /// Puts messages into the maildrop, in this order, after what is there.
    fn put(&self, messages: &[Vec<u8>]);

    /// Counts what is left in the maildrop.
    fn left(&self) -> usize;

    /// Puts other messages in the place of all that are there, behind the server's back: its index goes with them.
    fn replace(&mut self, messages: &[Vec<u8>]);

    /// Makes the server lose what it knows about its messages, which stay as they are: unique-ids may be others.
    fn rebuild(&mut self);

    /// Ends all its processes as a crash does, and starts it again on the same ports.
    fn crash(&mut self);

    /// Gives what is in the maildrop, unique-ids and octets as the server sends them.
    fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let (port, _) = self.ways()[0];
        Reader::plain(port).log_in(self.user(), self.password()).messages()
    }
}
