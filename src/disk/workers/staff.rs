//! How many workers there are, and what one does.

use std::sync::atomic::Ordering::SeqCst;

use tokio::runtime::Handle;

use super::super::answers::Counting;
use super::super::part::{Lane, Queue, Wait, Work};
use super::Disk;

/// Workers of each lane that a session may have even if others, which may all hang, have all that there are.
const OWN_WORKERS: usize = 2;

impl Disk {
    pub(super) fn queue(&self, lane: Lane, work: Work) {
        self.part.queue(lane).waiting.push_back(work);
        self.staff(lane);
    }

    /// Starts a worker if there is work for one more: beyond what those that are coming will take. To wake a thread for each
    /// message cost more than to write it.
    pub(super) fn staff(&self, lane: Lane) {
        {
            let mut queue = self.part.queue(lane);
            let most = self.shared.limits.workers;
            let taken = queue.coming * self.most_at_once(lane);
            if queue.waiting.len() <= taken || queue.workers >= most {
                return;
            }
            let all = &self.shared.workers[lane as usize];
            if all.fetch_add(1, SeqCst) >= most && queue.workers >= OWN_WORKERS {
                all.fetch_sub(1, SeqCst);
                return;
            }
            queue.workers += 1;
            queue.coming += 1;
        }
        self.begin();
        let worker = Worker { disk: self.clone(), lane, stage: Stage::Coming };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || worker.work())),
            // Outside a runtime (a draft that is dropped when all is over) there is nobody to keep waiting.
            Err(_) => worker.work(),
        }
    }

    /// Counts the pieces of work that a worker takes together.
    fn most_at_once(&self, lane: Lane) -> usize {
        match lane {
            Lane::Stores => self.shared.limits.group,
            Lane::Others => 1,
        }
    }

    pub(super) fn begin(&self) {
        self.shared.under_way.begin();
        self.part.under_way.begin();
    }

    pub(super) fn end(&self) {
        self.part.end();
        self.shared.under_way.end();
    }
}

/// Takes work until there is none; counted from before its thread starts.
struct Worker {
    disk: Disk,
    lane: Lane,
    stage: Stage,
}

/// How a worker is counted in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Coming,
    Working,
    Gone,
}

impl Worker {
    fn work(mut self) {
        let part = self.disk.part.clone();
        let _counting = Counting::into(&part.answers);
        let most = self.disk.most_at_once(self.lane);
        loop {
            let group: Vec<Work> = {
                let mut queue = part.queue(self.lane);
                self.count(&mut queue, Stage::Working);
                let count = most.min(queue.waiting.len());
                if count == 0 {
                    // Under the lock in which the queue was seen empty, or work queued just now would lie there.
                    self.count(&mut queue, Stage::Gone);
                    return;
                }
                queue.waiting.drain(..count).collect()
            };
            let waits: Vec<Wait> = group.into_iter().filter_map(|work| work()).collect();
            for wait in waits {
                wait();
            }
        }
    }

    fn count(&mut self, queue: &mut Queue, stage: Stage) {
        let before = std::mem::replace(&mut self.stage, stage);
        queue.coming -= usize::from(before == Stage::Coming);
        if before != Stage::Gone && stage == Stage::Gone {
            queue.workers -= 1;
            self.disk.shared.workers[self.lane as usize].fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.stage != Stage::Gone {
            // It panicked, or the runtime ended before it could begin.
            let disk = self.disk.clone();
            self.count(&mut disk.part.queue(self.lane), Stage::Gone);
            if std::thread::panicking() {
                disk.staff(self.lane);
            }
        }
        self.disk.end();
    }
}
