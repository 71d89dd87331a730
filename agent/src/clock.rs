//! The one place that reads clocks, and the one that sets the machine's.

#![expect(clippy::disallowed_methods, reason = "the door to the clocks")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// Milliseconds since the Unix epoch, UTC; 0 while the machine's clock stands before it.
pub fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A moment of the monotonic clock, for durations and deadlines.
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Milliseconds since the kernel started, the clock of `/proc/uptime`; 0 if the kernel has none.
pub fn uptime_ms() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|time| u64::try_from(Duration::from(time).as_millis()).ok())
        .unwrap_or(0)
}

/// Sets the machine's clock when it differs by more than `tolerated` from `unix_ms`. Gives the difference that was
/// corrected, milliseconds, positive when the machine's clock was behind.
///
/// # Errors
/// The kernel refuses: not root, or a time that it cannot hold.
pub fn set_if_off(unix_ms: i64, tolerated: Duration) -> Result<Option<i64>, std::io::Error> {
    let difference = unix_ms.saturating_sub(now_ms());
    if u128::from(difference.unsigned_abs()) <= tolerated.as_millis() {
        return Ok(None);
    }
    let since_epoch = u64::try_from(unix_ms).map(Duration::from_millis).map_err(std::io::Error::other)?;
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from_duration(since_epoch))?;
    Ok(Some(difference))
}
