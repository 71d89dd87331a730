//! Working on all disks side by side, as far as the plan's budget goes: so many at once for the power supply, so many at
//! once on one controller for its bus.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use vetting_protocol::inventory::Disk;
use vetting_protocol::outcome::Outcome;
use vetting_protocol::plan::DiskBudget;

use super::disks::Target;

/// Works on every disk in a thread of its own and gives the outcomes in the disks' order.
pub(super) fn side_by_side<'i>(
    targets: &[Target<'i>],
    budget: DiskBudget,
    work: impl Fn(&Target<'i>) -> Vec<Outcome> + Sync,
) -> Vec<Outcome> {
    let places = Places::new(budget);
    std::thread::scope(|scope| {
        let threads: Vec<_> = targets
            .iter()
            .map(|target| {
                let (work, places) = (&work, &places);
                let thread = std::thread::Builder::new().name(target.disk.name.clone()).spawn_scoped(
                    scope,
                    move || {
                        let _place = places.take(controller_of(target.disk));
                        work(target)
                    },
                );
                (target, thread)
            })
            .collect();
        let mut outcomes = Vec::new();
        for (target, thread) in threads {
            let disk = &target.disk.name;
            match thread {
                Ok(thread) => match thread.join() {
                    Ok(found) => outcomes.extend(found),
                    Err(_panic) => outcomes.push(Outcome::error(format!("{disk}: its test crashed"))),
                },
                Err(error) => {
                    outcomes.push(Outcome::error(format!("{disk}: its thread cannot be started: {error}")));
                }
            }
        }
        outcomes
    })
}

/// `pci-0000:00:1f.2` of `pci-0000:00:1f.2-ata-1`; a disk whose place is not known has a controller of its own.
fn controller_of(disk: &Disk) -> &str {
    let Some(path) = disk.by_path.as_deref() else { return &disk.name };
    let address = path.strip_prefix("pci-").and_then(|rest| rest.split_once('-')).map(|(address, _)| address);
    address.unwrap_or(path)
}

/// Places for disks to be worked on.
struct Places {
    budget: DiskBudget,
    /// Disks worked on by controller.
    taken: Mutex<BTreeMap<String, u32>>,
    left: Condvar,
}

/// One place; given back when dropped, also by a panic.
struct Place<'p> {
    places: &'p Places,
    controller: String,
}

impl Places {
    fn new(budget: DiskBudget) -> Self {
        Self { budget, taken: Mutex::default(), left: Condvar::new() }
    }

    /// Waits for a place.
    fn take(&self, controller: &str) -> Place<'_> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        while !has_room(self.budget, &taken, controller) {
            taken = self.left.wait(taken).unwrap_or_else(PoisonError::into_inner);
        }
        *taken.entry(controller.to_owned()).or_default() += 1;
        Place { places: self, controller: controller.to_owned() }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.controller) {
            *count -= 1;
        }
        drop(taken);
        self.places.left.notify_all();
    }
}

fn has_room(budget: DiskBudget, taken: &BTreeMap<String, u32>, controller: &str) -> bool {
    let fits = |limit: Option<u32>, count: u32| limit.is_none_or(|limit| count < limit.max(1));
    fits(budget.at_once, taken.values().sum())
        && fits(budget.per_controller, taken.get(controller).copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn most_at_once(budget: DiskBudget) -> (u32, u32) {
        let places = Places::new(budget);
        let (now, most) = ([AtomicU32::new(0), AtomicU32::new(0)], [AtomicU32::new(0), AtomicU32::new(0)]);
        let all = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for disk in 0..24 {
                let (places, now, most, all) = (&places, &now, &most, &all);
                scope.spawn(move || {
                    let controller = disk % 2;
                    let place = places.take(if controller == 0 { "a" } else { "b" });
                    let here = now[controller].fetch_add(1, Ordering::SeqCst) + 1;
                    most[controller].fetch_max(here, Ordering::SeqCst);
                    all.fetch_max(
                        now.iter().map(|count| count.load(Ordering::SeqCst)).sum(),
                        Ordering::SeqCst,
                    );
                    std::thread::yield_now();
                    now[controller].fetch_sub(1, Ordering::SeqCst);
                    drop(place);
                });
            }
        });
        let per_controller = most.iter().map(|most| most.load(Ordering::SeqCst)).max();
        (all.load(Ordering::SeqCst), per_controller.unwrap_or(0))
    }

    #[test]
    fn no_more_than_the_budget_work_at_once_and_all_get_their_turn() {
        let (all, _) = most_at_once(DiskBudget { at_once: Some(3), per_controller: None });
        assert!((1..=3).contains(&all), "{all}");
        let (_, each) = most_at_once(DiskBudget { at_once: None, per_controller: Some(2) });
        assert!((1..=2).contains(&each), "{each}");
        // nothing at once would be for ever
        assert_eq!(most_at_once(DiskBudget { at_once: Some(0), per_controller: None }).0, 1);
    }

    #[test]
    fn room_is_counted_in_all_and_by_controller() {
        let taken = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let room = |at_once, per_controller, controller| {
            has_room(DiskBudget { at_once, per_controller }, &taken, controller)
        };
        assert!(room(None, None, "a") && room(Some(4), Some(3), "a") && room(None, Some(2), "b"));
        assert!(!room(Some(3), None, "c") && !room(None, Some(2), "a"));
    }
}
