//! The inventory: doubted, and taken again for a plan that does not have it any more.

use super::*;

#[test]
fn devices_still_appearing_make_inventory_an_error() {
    let mut bench = Bench::new(FakeLink::new(all_required));
    bench.doubt = Some("devices were still appearing after 60 s".to_owned());
    bench.run(PASS);
    let story = bench.link.story();
    assert_eq!(
        story,
        ["Inventory starts", "Inventory error: devices were still appearing after 60 s", "end"]
    );
    let events = bench.link.events();
    assert_eq!(events, [(EventLevel::Warning, "devices_not_ready".to_owned())]);
}

static NEEDS_INVENTORY: &[&dyn Stage] = &[&Scripted(StageName::Firmware, |context| {
    context.inventory()?;
    Ok(ends(Outcome::Pass))
})];

#[test]
fn a_resumed_plan_without_its_inventory_stage_has_the_facts_all_the_same() {
    let bench = Bench::new(FakeLink::new(all_required));
    bench.run(NEEDS_INVENTORY);
    assert_eq!(bench.link.story(), ["Firmware starts", "Firmware passes", "end"]);
    // samples may come between
    let records = bench.link.records();
    let told = records.iter().position(|record| matches!(record, Record::Inventory(_)));
    let begun = records.iter().position(|record| matches!(record, Record::StageStarted { .. }));
    assert!(told.is_some() && told < begun, "what the machine is made of now: {told:?}, {begun:?}");
}
