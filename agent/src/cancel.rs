//! Asking work to end early: one flag, shared by all that must see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that is raised once and never lowered. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    above: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// Not raised.
    pub fn new() -> Self {
        Self::default()
    }

    /// A flag of its own that also counts as raised once this one is. (What is below that is not asked of this one.)
    #[must_use]
    pub fn below(&self) -> Self {
        Self { own: Arc::default(), above: Some(Arc::clone(&self.own)) }
    }

    /// Raises it.
    pub fn raise(&self) {
        self.own.store(true, Ordering::SeqCst);
    }

    /// Whether it was raised.
    pub fn is_raised(&self) -> bool {
        let raised = |flag: &Arc<AtomicBool>| flag.load(Ordering::SeqCst);
        raised(&self.own) || self.above.as_ref().is_some_and(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_raised_above_is_raised_below_and_not_the_other_way() {
        let above = Cancel::new();
        let (one, other) = (above.below(), above.below());
        one.raise();
        assert!(one.is_raised() && !other.is_raised() && !above.is_raised());
        above.raise();
        assert!(other.is_raised());
    }
}
