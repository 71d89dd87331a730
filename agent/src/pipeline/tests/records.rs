//! What is kept beside the outcomes of stages: samples, and what tools wrote.

use super::*;

static ASKS_TOOLS: &[&dyn Stage] = &[
    &Scripted(StageName::Inventory, |context| {
        let wipefs = crate::tools::wipefs::invocation("/dev/sda");
        assert!(context.tools.run(&wipefs, &context.cancel, &mut |_, _| {}).is_err());
        Ok(ends(Outcome::Pass))
    }),
    &Scripted(StageName::Firmware, |_| Ok(ends(Outcome::Pass))),
];

#[test]
fn what_tools_wrote_is_stored_word_for_word_and_a_stage_without_tools_stores_nothing() {
    let bench = Bench::new(FakeLink::new(plain));
    bench.run(ASKS_TOOLS);
    let stored = bench.link.stored.lock().unwrap();
    let [(kind, name, body)] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!((kind.as_str(), name.as_str()), ("tool_output", "Inventory.jsonl"));
    assert!(body.contains("\"tool\":\"wipefs\"") && body.contains("wipefs is not installed"), "{body}");
}

#[test]
fn sensors_whose_thread_died_are_told_of() {
    let bench = Bench::new(FakeLink::new(plain));
    let panicking = Watched { before_room: || panic!("on purpose"), ..Watched::of(&bench.link) };
    bench.run_over(Arc::new(panicking), PASS);
    let events = bench.link.events();
    assert_eq!(events, [(EventLevel::Error, "sensors_unavailable".to_owned())]);
    let last = bench.link.steps().pop();
    assert!(matches!(last, Some(Record::PipelineFinished { .. })), "{last:?}");
}

#[test]
fn no_sample_of_a_stage_follows_its_end() {
    let bench = Bench::new(FakeLink::new(plain));
    bench.run(PASS);
    let mut finished = Vec::new();
    for record in bench.link.records() {
        match record {
            Record::StageFinished { stage, .. } => finished.push(stage),
            Record::Measurement(sample) => {
                assert!(sample.stage.is_none_or(|stage| !finished.contains(&stage)));
            }
            _ => {}
        }
    }
    assert_eq!(finished.len(), 2);
}
