//! How often one client is answered, as a pure function of the times it asked.
//!
//! Refuses to grow with the number of clients: anyone can make up addresses.

use std::collections::HashMap;
use std::hash::Hash;

/// Clients that are remembered; one more pushes another out.
const MOST_CLIENTS: usize = 4096;

/// At most so many answers for each client in each window of time.
#[derive(Debug)]
pub struct RateLimit<K> {
    most: u32,
    window_ms: i64,
    swept_ms: i64,
    /// Start of the client's window, and its answers since.
    clients: HashMap<K, (i64, u32)>,
}

impl<K: Eq + Hash + Copy> RateLimit<K> {
    /// `most` answers in `window_ms` milliseconds.
    pub fn new(most: u32, window_ms: i64) -> Self {
        Self { most, window_ms, swept_ms: 0, clients: HashMap::new() }
    }

    /// Whether this client may have an answer now; counts it if so.
    pub fn allows(&mut self, client: K, now_ms: i64) -> bool {
        self.make_room(&client, now_ms);
        let over = Self::over(self.window_ms, now_ms);
        let (since_ms, answers) = self.clients.entry(client).or_insert((now_ms, 0));
        if over(*since_ms) {
            (*since_ms, *answers) = (now_ms, 0);
        }
        let allowed = *answers < self.most;
        *answers += u32::from(allowed);
        allowed
    }

    /// A window in the future is over too: the clock was set back.
    fn over(window_ms: i64, now_ms: i64) -> impl Fn(i64) -> bool {
        move |since_ms| !(since_ms..since_ms.saturating_add(window_ms)).contains(&now_ms)
    }

    fn make_room(&mut self, client: &K, now_ms: i64) {
        if self.clients.len() < MOST_CLIENTS || self.clients.contains_key(client) {
            return;
        }
        let over = Self::over(self.window_ms, now_ms);
        if over(self.swept_ms) {
            self.swept_ms = now_ms;
            self.clients.retain(|_, (since_ms, _)| !over(*since_ms));
        }
        if self.clients.len() >= MOST_CLIENTS
            && let Some(any) = self.clients.keys().next().copied()
        {
            self.clients.remove(&any);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_limit_and_gets_it_anew() {
        let mut limit = RateLimit::new(2, 1_000);
        assert_eq!([10, 20, 30].map(|now| limit.allows('a', now)), [true, true, false]);
        assert!(limit.allows('b', 30));
        assert!(limit.allows('a', 1_010), "the window is over");
        assert!(limit.allows('a', 5), "the clock was set back");
    }

    #[test]
    fn made_up_clients_do_not_fill_the_memory() {
        let mut limit = RateLimit::new(1, 1_000);
        for client in 0..3 * MOST_CLIENTS {
            assert!(limit.allows(client, 7));
        }
        assert!(limit.clients.len() <= MOST_CLIENTS);
        assert!(limit.allows(usize::MAX, 7));
        assert!(!limit.allows(usize::MAX, 8));
    }
}
