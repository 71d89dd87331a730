//! The profiles a run can have.

use crate::ids::named_enum;

named_enum! {
    /// How long and how deep a run goes. `runs.profile`.
    ProfileName, "a profile (quick, deep or soak)" {
        /// Half an hour at most.
        Quick = "quick",
        /// About a day.
        Deep = "deep",
        /// Three days and more.
        Soak = "soak",
    }
}
