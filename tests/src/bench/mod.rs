//! `make bench`: how the product compares with what else does the job, side by side in one run.
//!
//! Owns rounds, ratios and their table. Refuses to judge absolute speed: a figure alone says more about the machine
//! it was taken on than about us.

pub mod boot;
pub mod fleet;
pub mod ingest;
pub mod inventory;
pub mod pages;
mod process;
mod raw_inserts;
pub mod sampling;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// What both sides took or did in one round, in the same unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// This product.
    pub ours: f64,
    /// What it is compared with.
    pub theirs: f64,
}

/// What a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Ours divided by theirs, at most this.
    AtMost(f64),
    /// Ours divided by theirs, at least this.
    AtLeast(f64),
    /// Theirs divided by ours, at least this.
    TimesFaster(f64),
    /// Nothing was set; ours divided by theirs is told.
    NoneSet,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What is compared.
    pub subject: &'static str,
    /// Our side.
    pub ours: &'static str,
    /// The other side.
    pub theirs: &'static str,
    /// Unit of every figure in `rounds`.
    pub unit: &'static str,
    /// At least one.
    pub rounds: Vec<Round>,
    /// What is asked of the ratio.
    pub goal: Goal,
}

impl Comparison {
    /// The ratio of each round, smallest first.
    fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = self
            .rounds
            .iter()
            .map(|round| match self.goal {
                Goal::TimesFaster(_) => round.theirs / round.ours,
                Goal::AtMost(_) | Goal::AtLeast(_) | Goal::NoneSet => round.ours / round.theirs,
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// Median of the rounds' ratios.
    pub fn ratio(&self) -> f64 {
        median(self.ratios())
    }

    /// Whether the goal is met; `None` where none is set. Without a round it is not met.
    pub fn met(&self) -> Option<bool> {
        let ratio = self.ratio();
        match self.goal {
            Goal::AtMost(most) => Some(ratio <= most),
            Goal::AtLeast(least) | Goal::TimesFaster(least) => Some(ratio >= least),
            Goal::NoneSet => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let side = |name: &str, value: fn(&Round) -> f64| {
            let value = median(self.rounds.iter().map(value).collect());
            format!("{} {}\n{name}", figure(value), self.unit)
        };
        let ratios = self.ratios();
        let spread = match (ratios.first(), ratios.last()) {
            (Some(least), Some(most)) => {
                format!("\n{} to {}, {} rounds", figure(*least), figure(*most), ratios.len())
            }
            _ => String::new(),
        };
        let goal = match self.goal {
            Goal::AtMost(most) => format!("ours/theirs\nat most {most}"),
            Goal::AtLeast(least) => format!("ours/theirs\nat least {least}"),
            Goal::TimesFaster(least) => format!("theirs/ours\nat least {least}"),
            Goal::NoneSet => "ours/theirs\nnone set".to_owned(),
        };
        let verdict = match self.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        [
            self.subject.to_owned(),
            side(self.ours, |round| round.ours),
            side(self.theirs, |round| round.theirs),
            format!("{}{spread}", figure(median(ratios))),
            goal,
            verdict.to_owned(),
        ]
    }
}

/// The middle value; the mean of the two middle ones where the count is even; not a number where there is none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Three digits that say something.
fn figure(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// An empty table.
fn grid(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header.iter().copied());
    table
}

/// All comparisons as one table.
pub fn table(comparisons: &[Comparison]) -> Table {
    let mut table = grid(&["compared (medians)", "ours", "theirs", "ratio", "goal", ""]);
    for comparison in comparisons {
        table.add_row(comparison.cells());
    }
    for column in table.column_iter_mut().skip(1).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(goal: Goal, rounds: &[(f64, f64)]) -> Comparison {
        let rounds = rounds.iter().map(|&(ours, theirs)| Round { ours, theirs }).collect();
        Comparison { subject: "speed", ours: "us", theirs: "them", unit: "s", rounds, goal }
    }

    #[test]
    fn a_goal_is_met_at_its_limit_and_missed_beyond() {
        assert_eq!(comparison(Goal::AtMost(2.0), &[(4.0, 2.0)]).met(), Some(true));
        assert_eq!(comparison(Goal::AtMost(2.0), &[(4.1, 2.0)]).met(), Some(false));
        assert_eq!(comparison(Goal::AtLeast(0.5), &[(1.0, 2.0)]).met(), Some(true));
        assert_eq!(comparison(Goal::AtLeast(0.5), &[(0.9, 2.0)]).met(), Some(false));
        assert_eq!(comparison(Goal::TimesFaster(5.0), &[(1.0, 5.0)]).met(), Some(true));
        assert_eq!(comparison(Goal::TimesFaster(5.0), &[(1.0, 4.9)]).met(), Some(false));
        assert_eq!(comparison(Goal::NoneSet, &[(1.0, 4.9)]).met(), None);
    }

    #[test]
    fn no_round_meets_no_goal() {
        for goal in [Goal::AtMost(2.0), Goal::AtLeast(0.5), Goal::TimesFaster(5.0)] {
            assert_eq!(comparison(goal, &[]).met(), Some(false));
        }
    }

    #[test]
    fn the_ratio_is_the_median_of_ratios_taken_round_by_round() {
        // the machine was ten times slower in the last round, for both alike
        let rounds = [(1.0, 2.0), (1.2, 2.0), (11.0, 20.0)];
        assert!((comparison(Goal::NoneSet, &rounds).ratio() - 0.55).abs() < 1e-9);
    }

    #[test]
    fn the_table_says_met_and_missed() {
        let text = table(&[
            comparison(Goal::AtMost(2.0), &[(1.0, 2.0)]),
            comparison(Goal::AtMost(2.0), &[(5.0, 2.0)]),
        ])
        .to_string();
        assert!(text.contains(" met ") && text.contains("MISSED"), "{text}");
    }
}
