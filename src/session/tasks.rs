//! What a session can be asked to do: four tasks over the same stages.
//!
//! Of a sync, mail that needs no question comes first; then the questions about mail that may be new, and what they leave
//! to be fetched; then those about deletions; and at last, at leisure, those about messages that were only marked.

use crate::config::account::{FirstSync, Keep};
use crate::config::units::show_duration;
use crate::message::UniqueId;
use crate::source::{Blamed, Finished, Opened, Parting};
use crate::state::Memory;
use crate::stop::QUIT;
use crate::text::Shown;

use super::book::Book;
use super::course::Met;
use super::fan::{self, Of};
use super::notes::Notes;
use super::plan::{Plan, Reason, Step};
use super::poll::Poll;
use super::summary::messages;
use super::target::note_log_in;
use super::transfer::Outlet;
use super::trouble::{During, Failed, Trouble};
use super::turn::{Turn, count};
use super::{Activity, MayDelete, Planned, Task};

/// Carries the task out in a session that is logged in and listed.
pub async fn carry_out(
    poll: &Poll<'_>,
    notes: Notes<'_>,
    opened: Opened,
    memory: &Memory,
) -> Result<(), Failed> {
    let turn = Turn::begin(poll, notes, opened, memory).await?;
    match poll.task {
        Task::Check(_) => check(turn).await,
        Task::DryRun(_) => dry_run(turn).await,
        Task::MarkAll(_) => mark_all(turn).await,
        Task::Sync(_) => Box::pin(sync(turn)).await,
    }
}

/// Counts what is new and what is held.
async fn check(mut turn: Turn<'_>) -> Result<(), Failed> {
    let plan = look(&mut turn).await?;
    turn.notes.report.held = turn.count_held(&plan);
    turn.source.finish(Parting::Whole, None).await.ended?;
    Ok(())
}

/// Says what a sync would do.
async fn dry_run(mut turn: Turn<'_>) -> Result<(), Failed> {
    let plan = look(&mut turn).await?;
    let plan = turn.date(plan).await?;
    turn.notes.report.planned = planned(&plan, &turn.book);
    turn.source.finish(Parting::Whole, None).await.ended?;
    Ok(())
}

/// Takes what is there as seen.
async fn mark_all(mut turn: Turn<'_>) -> Result<(), Failed> {
    if let Err(failed) = mark(&mut turn).await {
        let met = Met { broke: turn.fetched.broke, ..Met::default() };
        turn.notes.course.note(met, &turn.book.listing);
        return Err(failed);
    }
    turn.notes.closing.listed_at = Some(turn.poll.now);
    turn.source.finish(Parting::Whole, None).await.ended?;
    Ok(())
}

async fn mark(turn: &mut Turn<'_>) -> Result<(), Failed> {
    let plan = look(turn).await?;
    let is_unrecorded = |(_, step): &&(usize, Step)| {
        !matches!(step, Step::Delete(_) | Step::GiveUpDeleting(_) | Step::Nameless)
    };
    let all: Vec<usize> = plan.steps.iter().filter(is_unrecorded).map(|(index, _)| *index).collect();
    turn.look_at(&all).await?;
    turn.book.name_marked(&all);
    turn.skip(&all).await
}

async fn sync(mut turn: Turn<'_>) -> Result<(), Failed> {
    if let Err(aborted) = transfer(&mut turn).await {
        turn.fetched.in_step = false;
        turn.fetched.aborted.get_or_insert(aborted);
    }
    settle(&mut turn).await?;
    part(turn).await
}

/// Finds out which message is which, and what is new.
async fn look(turn: &mut Turn<'_>) -> Result<Plan, Failed> {
    turn.ask().await?;
    let plan = turn.book.plan();
    turn.is_told_apart(&plan)?;
    (turn.notes.report.new, turn.notes.report.new_octets) = (plan.new, plan.new_octets);
    Ok(plan)
}

/// Does all that a sync does before QUIT.
async fn transfer(turn: &mut Turn<'_>) -> Result<(), Failed> {
    let is_first = turn.notes.course.is_first();
    let mut plan = turn.book.plan();
    turn.notes.closing.released = std::mem::take(&mut plan.released);
    if !turn.book.sorted.questions.is_empty() {
        let plain = turn.fetches(&plan);
        if is_first {
            (turn.notes.report.new, turn.notes.report.new_octets) = turn.sum(&plain);
        }
        if !turn.fetch(plain, Vec::new(), Vec::new()).await? {
            return Ok(());
        }
        turn.ask().await?;
        plan = turn.book.plan();
        // Now they have the names that they were held by.
        turn.notes.closing.released = std::mem::take(&mut plan.released);
    }
    plan = turn.date(plan).await?;
    if is_first {
        let report = &mut *turn.notes.report;
        report.new += plan.new;
        report.new_octets = report.new_octets.saturating_add(plan.new_octets);
    }
    turn.is_told_apart(&plan)?;
    turn.poll.hold_crowded(&mut plan, &turn.book).await;
    turn.note_left(&plan).await?;
    match count(&plan, |step| matches!(step, Step::Undated)) {
        // What `first_sync` leaves is recorded.
        0 => turn.notes.closing.listed_at = Some(turn.poll.now),
        undated => turn.fetched.postponed += undated,
    }
    turn.end_cut_off(&plan).await?;
    let wanted = turn.fetches(&plan);
    if turn.fetch(wanted, Vec::new(), Vec::new()).await?
        && turn.delete(&plan).await?
        && Box::pin(turn.fetch_lacking(&plan)).await?
    {
        turn.ask_at_leisure().await?;
    }
    Ok(())
}

/// Closes the target, and notes what came of the messages.
async fn settle(turn: &mut Turn<'_>) -> Result<(), Failed> {
    let mut failed = close_targets(turn).await?;
    let Turn { poll, notes, book, outlet, fetched, .. } = turn;
    // After a session that was killed, of a mailbox that others fill too, and where others lacked it, this is as it
    // should be. Else somebody wants to know where the time went.
    let is_plain = outlet.as_ref().is_some_and(|outlet| match outlet {
        Outlet::One(sink, _) => sink.mailbox().is_none(),
        Outlet::Several(_) => false,
    });
    if fetched.already_there > 0 && !book.memory.left.is_to_be_ended() && is_plain {
        log::warn!(
            "{}: found {} in the target and not in the state file, which is new or older or was told to forget; \
             fetched, compared and not delivered again",
            poll.account.name,
            messages(fetched.already_there)
        );
    }
    poll.find_crowded(&mut fetched.failed, &book.listing).await;
    poll.settle(book, fetched, notes.lend());
    notes.report.leaves_held = notes.report.held;
    notes.report.stays = book.left_by_others();
    let had = fetched.delivered + fetched.already_there + fetched.known;
    let missed = fetched.failed.iter().map(|failed| (book.name_of(failed.index), failed.reason.clone()));
    notes.course.tried(had, missed);
    // What waits for another session was not tried yet.
    let any_failed = failed.is_some() || fetched.refused.is_some();
    if fetched.aborted.is_none() && !any_failed && fetched.postponed == 0 {
        fetched.aborted = notes.course.all_missed(notes.report.held);
    }
    book.close(fetched.aborted.as_ref(), notes.closing);
    turn.target_failed = failed.take();
    Ok(())
}

/// Closes the targets, and gives what was wrong with one of several: the session goes on without it.
async fn close_targets(turn: &mut Turn<'_>) -> Result<Option<Failed>, Failed> {
    let Turn { poll, notes, book, outlet, fetched, .. } = turn;
    let left =
        fetched.left + fetched.postponed + fetched.failed.len() + notes.report.left + notes.report.held;
    let store = &poll.environment.store;
    match outlet {
        Some(Outlet::One(sink, _)) => {
            let failed = fetched.aborted.as_mut().and_then(Failed::target_error);
            let own = (poll.account, poll.account.target());
            note_log_in(own, poll.environment, sink, failed).await?;
            // What a target that failed had delivered before is recorded.
            let aborted = fetched.aborted.as_ref().map(|failed| &failed.trouble);
            if aborted.is_none_or(|trouble| matches!(trouble, Trouble::Target(_))) {
                let leftover = book.stock.settle(&book.memory.key, store, sink, book.to_come()).await?;
                if let Some(mailbox) = sink.mailbox() {
                    mailbox.settle(leftover, poll.now);
                }
                book.keep_found(leftover);
            }
            sink.close().await;
            let memory = poll.account.target().memory(&poll.account.maildrop_id);
            if let (Some(news), Some(name)) = (sink.news(), memory) {
                store.remember(name, news).await.during("write the state")?;
            }
            Ok(None)
        }
        Some(Outlet::Several(fan)) => {
            let how = match left {
                _ if fetched.aborted.is_some() => fan::Closing::Broken,
                _ if book.has_holes() => fan::Closing::Unnamed,
                0 => fan::Closing::Whole,
                _ => fan::Closing::Unfinished,
            };
            let leftover = fan.close(Of { poll, memory: book.memory }, how).await?;
            book.keep_found(leftover);
            notes.closing.stays_open = fan.stays_open(book.memory);
            let failed = fan.failure(poll.account);
            notes.report.serves_others = failed.is_some() && fan.serves();
            Ok(failed)
        }
        None => Ok(None),
    }
}

/// Ends the session, and notes what became of its deletions.
async fn part(turn: Turn<'_>) -> Result<(), Failed> {
    let Turn {
        poll,
        notes: Notes { course, report, closing, .. },
        source,
        book,
        fetched,
        marked,
        target_failed,
        ..
    } = turn;
    let parting = match (fetched.in_step, fetched.shown_undelivered) {
        (false, _) => Parting::Broken,
        (true, true) => Parting::Undelivered,
        (true, false) => Parting::Whole,
    };
    poll.progress.doing(Activity::EndingSession);
    let stopped = matches!(fetched.aborted, Some(Failed { trouble: Trouble::Stopped, .. }));
    let Finished { deleted, undeleted, uncertain, ended } =
        source.finish(parting, stopped.then_some(QUIT)).await;
    let names = |indices: &[usize]| -> Vec<(UniqueId, u32)> {
        indices.iter().map(|index| book.name_of(*index)).collect()
    };
    closing.undeleted.extend(names(&undeleted));
    let is_unreal = ended.is_err() && !undeleted.is_empty();
    let uncertain: Vec<usize> = fetched.uncertain.iter().copied().chain(uncertain).collect();
    book.doubt(&uncertain, closing);
    match fetched.broke.as_ref().map(|broke| broke.at) {
        Some(Blamed::Deletion(index) | Blamed::Had(index)) => {
            poll.hold_undeletable(index, &book, closing);
        }
        Some(Blamed::Message(_) | Blamed::Headers | Blamed::Nobody) | None => {}
    }
    closing.deleted = names(&deleted);
    report.deleted += deleted.len();
    // What was only compared, and is to be compared again, brings nothing on.
    let delivered = fetched.delivered + fetched.already_there > 0;
    let fruitful = delivered || marked > 0 || !deleted.is_empty();
    if fetched.broke.is_some() && !uncertain.is_empty() {
        course.leaves_doubt();
    }
    let met = Met { broke: fetched.broke, fruitful, postponed: fetched.postponed, is_unreal };
    course.note(met, &book.listing);
    match (fetched.aborted, fetched.refused.or(target_failed)) {
        (Some(aborted), _) => Err(aborted),
        (None, Some(failed)) => ended.map_err(Failed::from).and(Err(failed)),
        (None, None) => Ok(ended?),
    }
}

/// Gives what is planned of each message, and that it is deleted, at once or some time, if it is delivered.
fn planned(plan: &Plan, book: &Book<'_>) -> Vec<Planned> {
    let Book { listing, policy, .. } = book;
    let then = match (policy.deletions, policy.keep) {
        (MayDelete::AsConfigured, Keep::For(time)) => {
            format!("; deleted on the server {} after delivery", show_duration(time))
        }
        (MayDelete::AsConfigured | MayDelete::NotNow, _) => String::new(),
    };
    let step = |(index, step): &(usize, Step)| {
        let (action, reason) = match step {
            Step::Fetch(Reason::New) => ("fetch", "new"),
            Step::Fetch(Reason::Retry) => ("fetch", "held, and its wait is over"),
            Step::Fetch(Reason::Compared) => ("fetch", "to be compared with the one that was recorded"),
            Step::Delete(_) => ("delete", "delivered, and keep says so"),
            Step::GiveUpDeleting(_) => ("leave", "the server keeps it in spite of three deletions"),
            Step::TooLarge => ("leave", "larger than max_size"),
            Step::Held => ("hold", "held, and its wait is not over"),
            Step::Later => ("leave", "beyond the limit on messages"),
            Step::Skip => match policy.first_sync {
                FirstSync::Within(_) => ("leave", "older than first_sync fetches"),
                FirstSync::All | FirstSync::None => ("leave", "first_sync: none"),
            },
            Step::Undated => ("leave", "it is not known yet how old it is"),
            Step::Nameless => ("leave", "nothing tells it from others"),
            Step::Unasked => ("leave", "it is not known yet which message it is"),
        };
        let message = listing.get(*index);
        let comes = matches!(step, Step::Fetch(Reason::New | Reason::Retry));
        let reason = reason.to_owned() + if comes { &then } else { "" };
        let uid = Shown(message.uid).to_string();
        let planned = Planned { uid, octets: message.octets, action, reason };
        let deleted = (comes && policy.deletes_at_once()).then(|| Planned {
            action: "delete",
            reason: "once it is delivered, as keep says".into(),
            ..planned.clone()
        });
        [planned].into_iter().chain(deleted)
    };
    plan.steps.iter().flat_map(step).collect()
}
