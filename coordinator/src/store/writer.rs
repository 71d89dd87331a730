//! The one thread that writes. Jobs that wait are done in one transaction, each in a savepoint of its own, so that
//! one fsync pays for many; nobody has an answer before the commit. Survives failing and panicking jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokio::sync::{mpsc, oneshot, watch};

use super::{Connection, StoreError};

/// Most jobs in one transaction: a bound for how much work one failed commit takes back.
pub(super) const MAX_GROUP_JOBS: usize = 64;

/// Most jobs that wait; who comes later waits for a place.
pub(super) const MAX_WAITING_JOBS: usize = 256;

/// A piece of work on the database that somebody waits for.
pub(super) trait Job: Send {
    /// Does it, inside a savepoint. False asks to roll that back.
    fn run(&mut self, connection: &Connection) -> bool;
    /// Tells who waits; `undone` is set when the work was taken back by no fault of the job.
    fn answer(self: Box<Self>, undone: Option<StoreError>);
}

/// A job with its result's types.
pub(super) struct TypedJob<T, E, F> {
    work: Option<F>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> TypedJob<T, E, F> {
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Self { work: Some(work), result: None, reply }, answer)
    }
}

impl<T, E, F> Job for TypedJob<T, E, F>
where
    T: Send,
    E: From<StoreError> + Send,
    F: FnOnce(&Connection) -> Result<T, E> + Send,
{
    fn run(&mut self, connection: &Connection) -> bool {
        let result = self.work.take().map(|work| work(connection));
        let keep = matches!(result, Some(Ok(_)));
        self.result = result;
        keep
    }

    fn answer(self: Box<Self>, undone: Option<StoreError>) {
        let answer = match (self.result, undone) {
            // a refusal stays a refusal, whatever became of the others
            (Some(Err(error)), _) => Err(error),
            (_, Some(undone)) => Err(E::from(undone)),
            (Some(result), None) => result,
            (None, None) => Err(E::from(StoreError::JobPanicked)),
        };
        // who asked may have gone
        let _ = self.reply.send(answer);
    }
}

/// Works until every sender is gone and the queue is empty.
pub(super) fn serve(
    connection: &Connection,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    committed: &watch::Sender<u64>,
) {
    let mut group = Vec::with_capacity(MAX_GROUP_JOBS);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < MAX_GROUP_JOBS {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        run_group(connection, &mut group);
        committed.send_modify(|commits| *commits = commits.wrapping_add(1));
    }
}

/// Does every job of `group`, in as many transactions as it takes.
fn run_group(connection: &Connection, group: &mut Vec<Box<dyn Job>>) {
    let mut waiting = group.drain(..);
    while waiting.len() > 0 {
        if let Err(error) = execute(connection, "BEGIN IMMEDIATE") {
            for job in waiting {
                job.answer(Some(error.clone()));
            }
            return;
        }
        let mut done: Vec<Box<dyn Job>> = Vec::new();
        let mut lost = None;
        for mut job in waiting.by_ref() {
            let result = run_in_savepoint(connection, job.as_mut());
            done.push(job);
            if let Err(error) = result {
                lost = Some(error);
                break;
            }
        }
        let undone = lost.or_else(|| execute(connection, "COMMIT").err());
        if let Some(error) = &undone {
            tracing::error!(
                error = error as &dyn std::error::Error,
                jobs = done.len(),
                "a transaction was lost"
            );
            if !connection.is_autocommit()
                && let Err(error) = execute(connection, "ROLLBACK")
            {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot roll back");
            }
        }
        for job in done {
            job.answer(undone.clone());
        }
    }
}

/// An error means that the whole transaction is gone or no longer to be trusted, not only the job.
fn run_in_savepoint(connection: &Connection, job: &mut dyn Job) -> Result<(), StoreError> {
    execute(connection, "SAVEPOINT job")?;
    let keep = catch_unwind(AssertUnwindSafe(|| job.run(connection))).unwrap_or(false);
    if connection.is_autocommit() {
        // SQLite itself rolls back everything on some errors, a full disk among them
        return Err(StoreError::TransactionLost);
    }
    if !keep {
        execute(connection, "ROLLBACK TO job")?;
    }
    execute(connection, "RELEASE job")
}

fn execute(connection: &Connection, sql: &'static str) -> Result<(), StoreError> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
