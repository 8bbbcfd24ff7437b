//! Single answers of the machine to requests, with plain values.

use std::time::Duration;

use super::scenarios::{self, Drive, SECOND};
use super::{ChildPlan, Input, Request, StartRefusal};
use crate::policy::{Restart, Shutdown, Strategy};

const STRATEGIES: [Strategy; 3] = [
    Strategy::OneForOne,
    Strategy::OneForAll,
    Strategy::RestForOne,
];

/// A child whose restarts wait for a second.
fn plan(id: &str, restart: Restart) -> ChildPlan {
    let plan = scenarios::plan(id, restart, Shutdown::Infinite);
    ChildPlan {
        backoff: plan.backoff.first_immediate(false),
        ..plan
    }
}

fn permanent(id: &str) -> ChildPlan {
    plan(id, Restart::Permanent)
}

fn start(id: &str) -> Request {
    Request::Start(permanent(id))
}

fn temporary(id: &str) -> Request {
    Request::Start(plan(id, Restart::Temporary))
}

fn terminate(id: &str) -> Request {
    Request::Terminate(id.into())
}

fn restart(id: &str) -> Request {
    Request::Restart(id.into())
}

fn delete(id: &str) -> Request {
    Request::Delete(id.into())
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_new_child_is_started_at_once_and_answered_when_it_is_up() {
    for strategy in STRATEGIES {
        let mut drive = Drive::new(strategy, [permanent("a")]);
        drive.up(&["a"]);
        assert_eq!(drive.request(1, start("b")), ["admit b", "start b#1"]);
        assert_eq!(drive.started("b", 1), ["1: up #1"]);
    }
}

/// OTP-START-10.
#[test]
fn a_new_child_that_does_not_start_is_forgotten_and_costs_nothing() {
    let mut drive = Drive::new(Strategy::OneForAll, [permanent("a")]);
    drive.up(&["a"]);
    drive.request(1, start("b"));
    assert_eq!(drive.failed("b", 1), ["1: failed", "forget b"]);
    assert_eq!(drive.machine.window(drive.now).0, 0);
    assert_eq!(drive.machine.counts().specs, 1);
    assert_eq!(drive.request(2, start("b")), ["admit b", "start b#1"]);
}

/// OTP-START-03, OTP-START-05.
#[test]
fn an_ignored_child_is_kept_and_a_temporary_one_is_not() {
    let mut drive = Drive::new(Strategy::OneForOne, []);
    drive.up(&[]);
    drive.request(1, start("a"));
    assert_eq!(drive.refused("a", 1, StartRefusal::Ignored), ["1: ignored"]);
    assert_eq!(drive.request(2, start("a")), ["2: already present"]);
    drive.request(3, temporary("t"));
    assert_eq!(
        drive.refused("t", 1, StartRefusal::Ignored),
        ["3: ignored", "forget t"]
    );
}

/// From the answer on, the child is as one that waits for a restart.
#[test]
fn a_postponed_start_is_answered_at_once_and_goes_on_as_a_restart() {
    let mut drive = Drive::new(Strategy::OneForOne, []);
    drive.up(&[]);
    drive.request(1, start("a"));
    let postponed = StartRefusal::Postponed(7 * SECOND);
    assert_eq!(drive.refused("a", 1, postponed), ["1: postponed"]);
    assert_eq!(drive.machine.next_timeout(), Some(drive.now + 7 * SECOND));
    drive.now += 7 * SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.failed("a", 2), nothing());
    assert_eq!(drive.machine.window(drive.now).0, 1);
}

/// RX-10: an id that is in use is refused and nothing changes, whatever its child is doing.
#[test]
fn an_id_in_use_is_refused() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    assert_eq!(drive.request(1, start("a")), ["1: already started #1"]);
    drive.exited("a", 1);
    assert_eq!(drive.request(2, start("a")), ["2: already started #1"]);
    drive.now += SECOND;
    drive.step(Input::Tick);
    assert_eq!(drive.request(3, start("a")), ["3: already started #2"]);
    drive.started("a", 2);
    drive.request(4, terminate("a"));
    assert_eq!(drive.request(5, start("a")), ["5: already started #2"]);
    assert_eq!(drive.stopped("a", 2), ["4: terminated"]);
    assert_eq!(drive.request(6, start("a")), ["6: already present"]);
    assert_eq!(drive.request(7, delete("a")), ["7: deleted", "forget a"]);
    assert_eq!(drive.request(8, start("a")), ["admit a", "start a#1"]);
}

/// OTP-TMP-02: a temporary child's id is free as soon as it has been terminated.
#[test]
fn a_terminated_temporary_child_is_forgotten() {
    let mut drive = Drive::new(Strategy::OneForOne, []);
    drive.up(&[]);
    drive.request(1, temporary("t"));
    drive.started("t", 1);
    assert_eq!(drive.request(2, terminate("t")), ["stop t#1"]);
    assert_eq!(drive.stopped("t", 1), ["2: terminated", "forget t"]);
    assert_eq!(drive.request(3, terminate("t")), ["3: NotFound"]);
    assert_eq!(drive.request(4, temporary("t")), ["admit t", "start t#1"]);
}

#[test]
fn a_child_terminated_during_its_backoff_does_not_come_back() {
    for strategy in STRATEGIES {
        let mut drive = Drive::new(strategy, [permanent("a")]);
        drive.up(&["a"]);
        drive.exited("a", 1);
        assert_eq!(drive.request(1, delete("a")), ["1: Restarting"]);
        assert_eq!(drive.request(2, restart("a")), ["2: restarting"]);
        assert_eq!(drive.request(3, terminate("a")), ["3: terminated"]);
        drive.now += 5 * SECOND;
        assert_eq!(drive.step(Input::Tick), nothing(), "{strategy:?}");
        assert_eq!(drive.machine.next_timeout(), None);
        assert_eq!(drive.request(4, terminate("a")), ["4: terminated"]);
        assert_eq!(drive.request(5, delete("a")), ["5: deleted", "forget a"]);
    }
}

#[test]
fn everybody_who_terminates_a_child_is_answered_at_its_end() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    assert_eq!(drive.request(1, terminate("a")), ["stop a#1"]);
    assert_eq!(drive.request(2, terminate("a")), nothing());
    assert_eq!(drive.request(3, delete("a")), ["3: Running"]);
    assert_eq!(drive.request(4, restart("a")), ["4: running"]);
    // It crashed in the last moment: the same end.
    assert_eq!(drive.exited("a", 1), ["1: terminated", "2: terminated"]);
    assert_eq!(drive.machine.window(drive.now).0, 0);
}

/// A start that was asked for is refused, and so nothing of the new child is kept.
#[test]
fn a_new_child_terminated_while_it_starts_is_forgotten() {
    let mut drive = Drive::new(Strategy::OneForOne, []);
    drive.up(&[]);
    drive.request(1, start("a"));
    assert_eq!(drive.request(2, terminate("a")), ["stop a#1"]);
    assert_eq!(drive.started("a", 1), nothing(), "ready all the same");
    assert_eq!(
        drive.stopped("a", 1),
        ["1: failed", "2: terminated", "forget a"]
    );
}

/// OTP-TYPE-05.
#[test]
fn a_terminated_child_is_restarted_by_request() {
    let mut drive = Drive::new(Strategy::RestForOne, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    assert_eq!(drive.request(1, restart("a")), ["1: running"]);
    assert_eq!(drive.request(2, restart("x")), ["2: not found"]);
    drive.request(3, terminate("a"));
    drive.stopped("a", 1);
    assert_eq!(drive.request(4, restart("a")), ["start a#2"]);
    assert_eq!(drive.request(5, restart("a")), ["5: running"], "in flight");
    assert_eq!(drive.failed("a", 2), ["4: failed"], "the spec stays");
    assert_eq!(drive.machine.window(drive.now).0, 0);
    assert_eq!(drive.request(6, restart("a")), ["start a#3"]);
    assert_eq!(drive.request(7, terminate("a")), ["stop a#3"]);
    assert_eq!(drive.failed("a", 3), ["6: failed", "7: terminated"]);
    assert_eq!(drive.request(8, delete("a")), ["8: deleted", "forget a"]);
}

/// Section 6 of the cases: a group restart planned after the answer revives it.
#[test]
fn a_later_group_restart_revives_a_terminated_child() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.request(1, terminate("b"));
    drive.stopped("b", 1);
    drive.exited("a", 1);
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.started("a", 2), ["start b#2"]);
}

/// Planned while the termination is under way, or before it: the child stays down.
#[test]
fn a_group_restart_under_way_leaves_a_terminated_child_alone() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b", "c"].map(permanent));
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.request(1, terminate("b")), ["stop b#1"]);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    assert_eq!(drive.request(2, terminate("c")), nothing());
    assert_eq!(drive.stopped("c", 1), ["2: terminated"]);
    assert_eq!(drive.stopped("b", 1), ["1: terminated"]);
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    // The retry of the same group restart does not revive them either.
    assert_eq!(drive.failed("a", 2), nothing());
    drive.now += 5 * SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#3"]);
    assert_eq!(drive.started("a", 3), nothing());
    assert_eq!(drive.request(3, restart("c")), ["start c#2"]);
}

/// While its group is stopped in order, a child that was terminated waits for its turn.
#[test]
fn a_termination_does_not_overtake_the_order_of_a_group() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b", "c"].map(permanent));
    drive.up(&["a", "b", "c"]);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    assert_eq!(drive.request(1, terminate("b")), nothing());
    assert_eq!(drive.stopped("c", 1), ["stop b#1"]);
    assert_eq!(drive.stopped("b", 1), ["1: terminated"]);
}

/// Nobody else's turn is waited for: neither before the group that is being stopped, nor once it starts again.
#[test]
fn a_termination_beside_a_group_that_is_being_stopped_is_made_at_once() {
    let mut before = Drive::new(Strategy::RestForOne, ["a", "b", "c"].map(permanent));
    before.up(&["a", "b", "c"]);
    assert_eq!(before.exited("b", 1), ["stop c#1"]);
    assert_eq!(before.request(1, terminate("a")), ["stop a#1"]);

    let mut after = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    after.up(&["a", "b"]);
    after.exited("a", 1);
    after.stopped("b", 1);
    after.now += SECOND;
    assert_eq!(after.step(Input::Tick), ["start a#2"]);
    assert_eq!(after.started("a", 2), ["start b#2"]);
    assert_eq!(after.request(1, terminate("a")), ["stop a#2"]);
}

#[test]
fn a_child_added_while_a_group_restarts_is_started_in_its_turn() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    assert_eq!(drive.exited("a", 1), ["stop b#1"]);
    assert_eq!(drive.request(1, start("c")), ["admit c"]);
    assert_eq!(drive.request(2, start("c")), ["2: already started #0"]);
    drive.stopped("b", 1);
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.started("a", 2), ["start b#2"]);
    assert_eq!(drive.started("b", 2), ["start c#1"]);
    assert_eq!(drive.failed("c", 1), ["1: failed", "forget c"]);
    assert_eq!(drive.machine.window(drive.now).0, 1, "only that of a");
    assert_eq!(drive.machine.next_timeout(), None);
}

/// A group restart that comes in between starts the new child again before it is answered.
#[test]
fn a_start_in_flight_is_taken_along_by_a_group_restart() {
    let mut drive = Drive::new(Strategy::OneForAll, [permanent("a")]);
    drive.up(&["a"]);
    drive.request(1, temporary("t"));
    assert_eq!(drive.exited("a", 1), ["stop t#1"]);
    assert_eq!(drive.failed("t", 1), nothing());
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.started("a", 2), ["start t#2"]);
    assert_eq!(drive.started("t", 2), ["1: up #2"]);
}

/// One that comes up before its turn to be stopped has come was started, and is temporary.
#[test]
fn a_temporary_child_that_comes_up_before_its_turn_to_be_stopped_is_not_started_again() {
    let mut drive = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.request(1, temporary("t"));
    drive.request(2, start("c"));
    drive.started("c", 1);
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    assert_eq!(drive.started("t", 1), ["1: up #1"]);
    assert_eq!(drive.stopped("c", 1), ["stop t#1"]);
    assert_eq!(drive.stopped("t", 1), ["forget t", "stop b#1"]);
    assert_eq!(drive.stopped("b", 1), nothing());
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.started("a", 2), ["start b#2"]);
    assert_eq!(drive.started("b", 2), ["start c#2"]);
}

/// A postponement that reaches a group being stopped delays the group.
#[test]
fn a_start_postponed_while_its_group_stops_delays_the_group() {
    let mut drive = Drive::new(Strategy::OneForAll, [permanent("a")]);
    drive.up(&["a"]);
    drive.request(1, start("b"));
    drive.request(2, start("c"));
    assert_eq!(drive.exited("a", 1), ["stop c#1"]);
    let postponed = StartRefusal::Postponed(9 * SECOND);
    assert_eq!(drive.refused("b", 1, postponed), ["1: postponed"]);
    drive.failed("c", 1);
    drive.now += 8 * SECOND;
    assert_eq!(drive.step(Input::Tick), nothing());
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
}

#[test]
fn a_supervisor_that_ends_answers_everybody() {
    let mut drive = Drive::new(Strategy::OneForOne, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    drive.request(1, start("c"));
    drive.request(2, terminate("a"));
    assert_eq!(
        drive.step(Input::Shutdown { deadline: None }),
        ["1: shutting down", "stop c#1"]
    );
    assert_eq!(drive.request(3, start("d")), ["3: shutting down"]);
    assert_eq!(drive.request(4, restart("a")), ["4: shutting down"]);
    assert_eq!(drive.request(5, delete("a")), ["5: ShuttingDown"]);
    assert_eq!(drive.request(6, terminate("b")), nothing());
    drive.failed("c", 1);
    assert_eq!(drive.stopped("b", 1), ["6: terminated"]);
    assert_eq!(drive.stopped("a", 1), ["2: terminated", "exit"]);
    assert_eq!(drive.request(7, terminate("a")), ["7: ShuttingDown"]);
}

/// A termination without a limit does not escape the deadline of a shutdown that follows.
#[test]
fn a_shutdown_tightens_a_termination_under_way() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    assert_eq!(drive.request(1, terminate("a")), ["stop a#1"]);
    let deadline = Some(drive.now + SECOND);
    assert_eq!(drive.step(Input::Shutdown { deadline }), ["stop a#1"]);
}

/// Nobody is told again what he knows already.
#[test]
fn a_shutdown_that_leaves_no_less_time_than_the_one_under_way_changes_nothing() {
    let mut drive = Drive::new(Strategy::OneForOne, [permanent("a")]);
    drive.up(&["a"]);
    let by = |drive: &Drive, seconds| Some(drive.now + seconds * SECOND);
    let deadline = by(&drive, 8);
    assert_eq!(drive.step(Input::Shutdown { deadline }), ["stop a#1"]);
    for deadline in [deadline, by(&drive, 9), None] {
        assert_eq!(drive.step(Input::Shutdown { deadline }), nothing());
    }
    let deadline = by(&drive, 7);
    assert_eq!(drive.step(Input::Shutdown { deadline }), ["stop a#1"]);
}

/// OTP-COUNT-01 in small, OTP-ADM-07.
#[test]
fn the_counts_follow_what_children_do() {
    let mut drive = Drive::new(Strategy::OneForOne, ["a", "b"].map(permanent));
    drive.up(&["a", "b"]);
    let counts = |drive: &Drive| {
        let counts = drive.machine.counts();
        (
            counts.specs,
            counts.active,
            counts.supervisors,
            counts.workers,
        )
    };
    assert_eq!(counts(&drive), (2, 2, 0, 2));
    drive.exited("a", 1);
    assert_eq!(counts(&drive), (2, 1, 0, 2), "one is restarting");
    drive.request(1, terminate("b"));
    assert_eq!(counts(&drive), (2, 1, 0, 2), "one is stopping");
    drive.stopped("b", 1);
    assert_eq!(counts(&drive), (2, 0, 0, 2));
    drive.request(2, delete("b"));
    assert_eq!(counts(&drive), (1, 0, 0, 1));
}

/// OTP-TMP-02: what was forgotten takes no room, however many come and go.
#[test]
fn children_that_come_and_go_leave_nothing() {
    let mut drive = Drive::new(Strategy::RestForOne, [permanent("a")]);
    drive.up(&["a"]);
    // Places are numbered on; that is all that may change.
    let picture = |drive: &Drive| {
        let picture = format!("{:?}", drive.machine);
        let at = picture.find("given: ").expect("it is there");
        let digits = picture[at + 7..].find(' ').expect("more follows");
        format!("{}{}", &picture[..at], &picture[at + 7 + digits..])
    };
    let before = picture(&drive);
    for ticket in 0..100 {
        drive.request(ticket, temporary("t"));
        drive.started("t", 1);
        drive.now += Duration::from_millis(1);
        drive.stopped("t", 1);
    }
    assert_eq!(picture(&drive), before);
}

/// Whether in a boot, alone, or in a group, at whatever stage: it is neither deleted nor started out of turn.
#[test]
fn a_child_that_is_about_to_run_counts_as_restarting() {
    let mut drive = Drive::new(Strategy::OneForOne, ["a", "b"].map(permanent));
    assert_eq!(drive.step(Input::Boot), ["start a#1"]);
    assert_eq!(drive.request(1, restart("a")), ["1: running"]);
    assert_eq!(drive.request(2, restart("b")), ["2: restarting"]);
    drive.started("a", 1);
    drive.started("b", 1);
    drive.exited("a", 1);
    drive.now += SECOND;
    assert_eq!(drive.step(Input::Tick), ["start a#2"]);
    assert_eq!(drive.request(3, delete("a")), ["3: Restarting"]);

    let mut group = Drive::new(Strategy::OneForAll, ["a", "b"].map(permanent));
    group.up(&["a", "b"]);
    assert_eq!(group.exited("a", 1), ["stop b#1"]);
    assert_eq!(group.request(1, delete("b")), ["1: Restarting"]);
    assert_eq!(group.request(2, delete("a")), ["2: Restarting"]);
}
