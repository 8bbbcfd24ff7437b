//! Every fault script beside this file, run in memory under paused time and over sockets in real time: whatever
//! the venue does, the subscriptions and the requests tell the truth.

#[path = "faults/continuity.rs"]
mod continuity;
#[path = "faults/ending.rs"]
mod ending;
#[path = "faults/fate.rs"]
mod fate;
#[path = "faults/frames.rs"]
mod frames;
#[path = "faults/kit.rs"]
mod kit;
#[path = "faults/liveness.rs"]
mod liveness;
#[path = "faults/naive.rs"]
mod naive;
#[path = "faults/offline.rs"]
mod offline;
#[path = "faults/random.rs"]
mod random;
#[path = "faults/recurring.rs"]
mod recurring;
#[path = "faults/refusals.rs"]
mod refusals;
#[path = "faults/restore.rs"]
mod restore;
#[path = "faults/scripts.rs"]
mod scripts;
#[path = "faults/soak.rs"]
mod soak;

use std::path::PathBuf;

use mainstay::testing::faults::{FaultReport, FaultRun, FaultScript, FaultWire};

fn script(name: &str) -> FaultScript {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/faults/{name}.json"));
    FaultScript::read(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn run(script: FaultScript, wire: FaultWire) -> FaultReport {
    let name = script.name.clone();
    let report = FaultRun::new(script, wire).run().await.expect("a run");
    assert!(report.violations.is_empty(), "{name}: {report}");
    report
}
