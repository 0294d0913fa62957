//! What stands below the help of commands.

/// Stands below the help of every command.
pub(super) const EXIT_STATUS: &str = "\
Exit status:
   0  all polled accounts succeeded, new mail or not (check: mail is waiting)
   1  check only: no mail is waiting
   2  the command line is wrong
  75  an account or a message failed, and a later run may succeed
  77  a server refused the credentials of an account
  78  the configuration is wrong, and nothing was contacted

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `daemon`.
pub(super) const DAEMON_EXIT_STATUS: &str = "\
Signals:
  TERM, INT  finish or abandon what is in flight, and exit with 0 within 10 s; a second one exits at once
  HUP        read the configuration again; a wrong one is reported, and the old one stays
  USR1       poll all accounts now

Exit status:
   0  it was asked to end
  75  it could not go on, or was asked twice to end
  78  the configuration was wrong at the start

Manual: postrider(1), postrider.yaml(5)";

/// Stands below the help of `wake`.
pub(super) const WAKE_EXIT_STATUS: &str = "\
Exit status:
   0  the daemon polls as soon as the servers and its limits allow
   2  the command line is wrong
  75  no daemon runs, or it does not have an account
  78  the configuration is wrong

Manual: postrider(1), postrider.yaml(5)";

/// Puts an example before what stands below a command's help.
pub(super) fn example(command: &str, below: &str) -> String {
    format!("Example:\n  {command}\n\n{below}")
}
