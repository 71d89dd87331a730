//! What tells a machine from its siblings, and where its parts were before.

use vetting_judge::component::{self, Component};
use vetting_judge::facts::PartBefore;
use vetting_judge::siblings::{self, Metric, Outlier, Worse};
use vetting_protocol::ids::RunId;
use vetting_protocol::inventory::Inventory;

use crate::store::components::{self, ComponentRow, MetricRow, RangeRow};
use crate::store::{Connection, StoreError, models, runs};

/// Earlier places of parts in a report.
const MOST_PARTS: u32 = 50;

/// Notes which parts a machine has, and what it calls itself.
pub(super) fn note_parts(
    connection: &Connection,
    run: RunId,
    inventory: &Inventory,
) -> Result<(), StoreError> {
    let part = |part: Component| ComponentRow {
        run,
        kind: part.kind.to_string(),
        serial: part.serial,
        model: part.model,
        place: part.place,
    };
    let parts: Vec<ComponentRow> = component::of(inventory).into_iter().map(part).collect();
    components::replace(connection, run, &parts)?;
    let system = &inventory.system;
    if let Some(product) = &system.product {
        let maker = system.manufacturer.as_deref().unwrap_or_default();
        models::set_product(connection, run, &format!("{maker} {product}"))?;
    }
    Ok(())
}

/// Keeps the figures by which later runs are compared with this one.
pub(super) fn keep(connection: &Connection, run: RunId) -> Result<(), StoreError> {
    components::keep_metrics(connection, run, &measured(connection, run)?)
}

/// The figures of a run, from its samples: of each quantity that is compared the worst value in each stage.
fn measured(connection: &Connection, run: RunId) -> Result<Vec<MetricRow>, StoreError> {
    let ranges = components::ranges(connection, run, &siblings::KINDS)?;
    let figure = |range: RangeRow| {
        let RangeRow { stage_name, kind, key, least, greatest, unit } = range;
        let value = match siblings::worse(&kind, &key)? {
            Worse::More => greatest,
            Worse::Less => least,
        };
        Some(MetricRow { stage_name, kind, key, value, unit })
    };
    Ok(ranges.into_iter().filter_map(figure).collect())
}

/// What is far from what other machines of the same model showed in a run of the same profile that passed.
pub(super) fn outliers(connection: &Connection, run: RunId) -> Result<Vec<Outlier>, StoreError> {
    let others: Vec<Vec<Metric>> = components::of_siblings(connection, run)?
        .into_iter()
        .map(|rows| rows.into_iter().map(metric).collect())
        .collect();
    if others.len() < siblings::FEWEST {
        return Ok(Vec::new());
    }
    let own: Vec<Metric> = measured(connection, run)?.into_iter().map(metric).collect();
    Ok(siblings::outliers(&own, &others))
}

fn metric(row: MetricRow) -> Metric {
    let MetricRow { stage_name, kind, key, value, unit } = row;
    Metric { stage: stage_name, kind, key, value, unit }
}

/// Where parts of this machine were before, in other machines.
pub(super) fn parts_before(connection: &Connection, run: RunId) -> Result<Vec<PartBefore>, StoreError> {
    let earlier = components::earlier(connection, run, MOST_PARTS)?;
    earlier
        .into_iter()
        .map(|part| {
            let row = runs::get(connection, part.run)?;
            Ok(PartBefore {
                kind: part.kind,
                serial: part.serial,
                place: part.place,
                host: row.host_name,
                run: row.id,
                started_ms: row.started_at_ms,
                result: row.result,
                failed_stage: row.failed_stage,
            })
        })
        .collect()
}
