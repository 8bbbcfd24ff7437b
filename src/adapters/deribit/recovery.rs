//! What to do about Deribit's error numbers.
//!
//! Apart because it is a table, and because two tables of names are in circulation for it: the
//! numbers agree, the words do not, so that only the numbers are read.
//!
//! Invariants: what is not known to pass is not tried again.

use std::time::Duration;

use crate::error::Recovery;

/// After `too_many_requests`. Both credit pools are refilled at 10,000 a second and hold at most
/// 50,000, so that after this long they are full, whatever had been spent.
const CREDITS_REFILLED: Duration = Duration::from_secs(5);

/// After `system_maintenance`, which lasts minutes.
const MAINTENANCE: Duration = Duration::from_secs(30);

/// Judges an error by its number.
pub(super) fn recovery(code: i64) -> Recovery {
    match code {
        // authorization_required; unauthorized (a token that is wrong, expired or of another connection)
        10000 | 13009 => Recovery::Reauthenticate,
        // too_many_requests; the venue ends the session as well
        10028 => Recovery::RetryAfter(CREDITS_REFILLED),
        // system_maintenance
        11051 => Recovery::RetryAfter(MAINTENANCE),
        // retry, settlement_in_progress, matching_engine_queue_full, too_many_concurrent_requests,
        // internal_server_error, temporarily_unavailable
        10040 | 10041 | 10047 | 10066 | 11094 | 13028 => Recovery::Retry,
        // timed_out: it may have been executed
        13888 => Recovery::Reconcile,
        // Among others invalid_credentials (13004), forbidden (13021), raw channels without
        // authorization (13778) and JSON-RPC's own errors (-32768 to -32000).
        _ => Recovery::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_number_has_its_recovery() {
        let table = [
            (-32700, Recovery::Stop),
            (-32603, Recovery::Stop),
            (-32602, Recovery::Stop),
            (-32601, Recovery::Stop),
            (-32600, Recovery::Stop),
            (-32000, Recovery::Stop),
            (10000, Recovery::Reauthenticate),
            (10004, Recovery::Stop),
            (10009, Recovery::Stop),
            (10020, Recovery::Stop),
            (10028, Recovery::RetryAfter(Duration::from_secs(5))),
            (10040, Recovery::Retry),
            (10041, Recovery::Retry),
            (10047, Recovery::Retry),
            (10066, Recovery::Retry),
            (11029, Recovery::Stop),
            (11044, Recovery::Stop),
            (11050, Recovery::Stop),
            (11051, Recovery::RetryAfter(Duration::from_secs(30))),
            (11052, Recovery::Stop),
            (11054, Recovery::Stop),
            (11094, Recovery::Retry),
            (13004, Recovery::Stop),
            (13009, Recovery::Reauthenticate),
            (13017, Recovery::Stop),
            (13020, Recovery::Stop),
            (13021, Recovery::Stop),
            (13028, Recovery::Retry),
            (13778, Recovery::Stop),
            (13888, Recovery::Reconcile),
        ];
        for (code, expected) in table {
            assert_eq!(recovery(code), expected, "{code}");
        }
    }

    #[test]
    fn an_unknown_number_is_not_tried_again() {
        for code in [i64::MIN, -1, 0, 1, 10001, 99_999, i64::MAX] {
            assert_eq!(recovery(code), Recovery::Stop, "{code}");
        }
    }
}
