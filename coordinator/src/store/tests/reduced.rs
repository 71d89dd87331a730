//! What charts are drawn from.

#![expect(clippy::float_cmp, reason = "values come out of the database as they went in")]

use proptest::prelude::*;

use super::{NOW_MS, host_and_run, on_a_database, sample};
use crate::store::measurements;
use crate::store::reduced::Reduced;

#[test]
fn no_peak_is_lost_and_what_comes_later_is_read_alone() {
    on_a_database(|db| {
        let (_, run) = host_and_run(db)?;
        let mut reduced = Reduced::default();
        reduced.read(db, run, "temp", 100)?;
        assert!(reduced.series().is_empty());
        let second = |second: i64| {
            let value = if second == 1_234 { 99.0 } else { 40.0 + (second % 7) as f64 };
            sample(NOW_MS + second * 1_000, "cpu/0", Some(value))
        };
        measurements::insert(db, run, &(0..2_000).map(second).collect::<Vec<_>>())?;
        measurements::insert(db, run, &[sample(NOW_MS, "cpu/1", None)])?;
        reduced.read(db, run, "temp", 100)?;
        let [line] = &reduced.series()[..] else { panic!("{:?}", reduced.series()) };
        assert!(line.key == "cpu/0" && line.unit == "celsius");
        // 2,000 s are more than 100 times ten seconds: minutes
        assert!((33..=35).contains(&line.points.len()), "{}", line.points.len());
        let peak = line.points.iter().find(|point| point.max == 99.0).unwrap();
        assert_eq!(peak.min, 40.0);
        // late ones, and the same again
        measurements::insert(db, run, &[sample(NOW_MS + 1_900_000, "cpu/0", Some(120.0)), second(2_001)])?;
        reduced.read(db, run, "temp", 100)?;
        reduced.read(db, run, "temp", 100)?;
        let mut anew = Reduced::default();
        anew.read(db, run, "temp", 100)?;
        assert_eq!(reduced.series(), anew.series());
        assert!(anew.series()[0].points.iter().any(|point| point.max == 120.0));
        Ok(())
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_line_has_few_points_and_the_extremes_of_all(
        samples in proptest::collection::vec((0_i64..400_000_000, -50.0_f64..150.0), 1..80),
        points in 10_u32..500,
    ) {
        let (lines, length) = on_a_database({
            let samples = samples.clone();
            move |db| {
                let (_, run) = host_and_run(db)?;
                let rows: Vec<_> =
                    samples.iter().map(|(at, value)| sample(NOW_MS + at, "cpu/0", Some(*value))).collect();
                measurements::insert(db, run, &rows)?;
                let mut reduced = Reduced::default();
                reduced.read(db, run, "temp", points)?;
                let least = samples.iter().map(|(at, _)| *at).min();
                let most = samples.iter().map(|(at, _)| *at).max();
                Ok((reduced.series(), most.unwrap_or(0) - least.unwrap_or(0)))
            }
        });
        let [line] = &lines[..] else { panic!("{lines:?}") };
        // an hour is the longest piece
        let most = u64::from(points).max(length.unsigned_abs() / 3_600_000) + 2;
        prop_assert!(line.points.len() as u64 <= most, "{} > {most}", line.points.len());
        let least = samples.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let greatest = samples.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
        prop_assert_eq!(line.points.iter().map(|point| point.min).fold(f64::INFINITY, f64::min), least);
        prop_assert_eq!(line.points.iter().map(|point| point.max).fold(f64::NEG_INFINITY, f64::max), greatest);
        prop_assert!(line.points.windows(2).all(|pair| pair[0].ts_ms < pair[1].ts_ms));
    }
}
