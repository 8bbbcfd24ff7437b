//! The fixtures, each with how it comes out.

use mainstay::testing::faults::{FaultOutcome, FaultWire};

use super::{run, script};

/// The scripts beside this file, and what becomes of the session.
macro_rules! fixtures {
    ($($name:ident $outcome:ident,)*) => {
        mod in_memory {
            use super::*;
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                $outcome(stringify!($name), FaultWire::Memory).await;
            })*
        }

        mod over_sockets {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                $outcome(stringify!($name), FaultWire::Sockets).await;
            })*
        }

        #[test]
        fn every_script_in_the_folder_is_run() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults");
            let mut there: Vec<String> = std::fs::read_dir(folder)
                .expect("the folder")
                .filter_map(|entry| {
                    let name = entry.expect("an entry").file_name().into_string().ok()?;
                    name.strip_suffix(".json").map(str::to_owned)
                })
                .collect();
            let mut run = vec![$(stringify!($name).to_owned()),*];
            there.sort();
            run.sort();
            assert_eq!(there, run);
        }
    };
}

async fn recovers(name: &str, wire: FaultWire) {
    let report = run(script(name), wire).await;
    assert_eq!(report.outcome, FaultOutcome::Recovered, "{report}");
}

async fn stops(name: &str, wire: FaultWire) {
    let report = run(script(name), wire).await;
    assert!(matches!(report.outcome, FaultOutcome::Ended(_)), "{report}");
}

fixtures! {
    accept_then_close recovers,
    acked_but_mute recovers,
    again_and_again recovers,
    bad_frames recovers,
    clock_jump recovers,
    clock_jump_of_an_hour recovers,
    close_codes recovers,
    cut_answer recovers,
    cut_from_client recovers,
    cut_to_client recovers,
    denied recovers,
    flood recovers,
    half_open recovers,
    half_open_for_a_while recovers,
    http_301 stops,
    http_401 stops,
    http_403 stops,
    http_404 stops,
    http_429 recovers,
    http_500 recovers,
    http_502 recovers,
    http_503 recovers,
    late_answers recovers,
    market_closed recovers,
    mute_but_ponging recovers,
    not_http recovers,
    opened_then_closed recovers,
    punished_burst recovers,
    raw recovers,
    refused recovers,
    reset recovers,
    slow_bytes recovers,
    slow_reader recovers,
    stalled_upgrade recovers,
    suspend recovers,
    suspend_for_a_night recovers,
}
