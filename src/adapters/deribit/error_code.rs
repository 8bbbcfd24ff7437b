//! Deribit's error numbers: what each means and what to do about it.
//!
//! Apart because it is a table, and because two tables of names are in circulation for it: the numbers
//! agree, the words do not, so that only the numbers are read. The names here are those of the
//! venue's long list (docs.deribit.com, "RPC error codes"), the explanations are ours.
//!
//! Invariants: the table is in the order of its numbers; what is not known to pass is not tried again.

use std::time::Duration;

use crate::error::{ErrorObject, Recovery};

/// One of the venue's error numbers.
///
/// ```
/// use mainstay::adapters::deribit::{Category, ErrorCode};
/// use mainstay::error::Recovery;
///
/// let code = ErrorCode::of(10009).expect("a known number");
/// assert_eq!((code.name, code.category), ("not_enough_funds", Category::Funds));
/// assert_eq!(code.recovery, Recovery::Stop);
/// assert!(ErrorCode::of(4711).is_none());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorCode {
    /// The number.
    pub code: i64,
    /// The venue's word for it.
    pub name: &'static str,
    /// What it is about.
    pub category: Category,
    /// What to do about it.
    pub recovery: Recovery,
    /// What it means, in a sentence.
    pub explanation: &'static str,
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Category {
    /// The request itself: its form, method or parameters.
    Request,
    /// The connection is not authenticated, or no longer.
    Authorization,
    /// The credentials are not accepted.
    Credentials,
    /// The account, key or scope does not allow it.
    Permission,
    /// Too many requests.
    RateLimit,
    /// A limit of the account on orders or positions.
    Limit,
    /// Not enough funds.
    Funds,
    /// The order: its values, or what has become of it.
    Order,
    /// The instrument or the platform does not trade at present.
    Market,
    /// A channel could not be subscribed.
    Subscription,
    /// The venue failed.
    Server,
}

impl ErrorCode {
    /// What is known of a number; `None` if nothing is. Such an error is not tried again.
    #[must_use]
    pub fn of(code: i64) -> Option<&'static Self> {
        let index = TABLE.binary_search_by_key(&code, |entry| entry.code);
        index.ok().map(|index| &TABLE[index])
    }

    /// What is known of the venue's answer.
    #[must_use]
    pub fn explain(error: &ErrorObject) -> Option<&'static Self> {
        Self::of(error.code)
    }

    /// Every number that is known, ascending.
    #[must_use]
    pub fn all() -> &'static [Self] {
        TABLE
    }
}

/// Judges an error by its number.
pub(super) fn recovery(code: i64) -> Recovery {
    ErrorCode::of(code).map_or(Recovery::Stop, |known| known.recovery)
}

/// After `too_many_requests`. Both credit pools are refilled at 10,000 a second and hold at most
/// 50,000, so that after this long they are full, whatever had been spent.
const CREDITS_REFILLED: Duration = Duration::from_secs(5);

/// After `system_maintenance`, and when the platform is locked; both last minutes.
pub(super) const MAINTENANCE: Duration = Duration::from_secs(30);

const fn code(
    code: i64,
    name: &'static str,
    category: Category,
    recovery: Recovery,
    explanation: &'static str,
) -> ErrorCode {
    ErrorCode {
        code,
        name,
        category,
        recovery,
        explanation,
    }
}

/// One line each, so that it can be compared with the venue's own.
#[rustfmt::skip]
const TABLE: &[ErrorCode] = &[
    code(-32700, "parse_error", Category::Request, Recovery::Stop, "the request is not JSON"),
    code(-32603, "internal_error", Category::Server, Recovery::Stop, "the venue's JSON-RPC layer failed"),
    code(-32602, "invalid_params", Category::Request, Recovery::Stop, "a parameter is missing, of the wrong type or out of range; the error's data names it"),
    code(-32601, "method_not_found", Category::Request, Recovery::Stop, "there is no such method"),
    code(-32600, "invalid_request", Category::Request, Recovery::Stop, "the request is no JSON-RPC request, or larger than 32 kB"),
    code(-32000, "missing_params", Category::Request, Recovery::Stop, "the request has no parameters where some are needed"),
    code(10000, "authorization_required", Category::Authorization, Recovery::Reauthenticate, "the method needs an authenticated connection, or the signature is wrong"),
    code(10001, "error", Category::Server, Recovery::Stop, "a general failure of which the venue says no more"),
    code(10002, "qty_too_low", Category::Order, Recovery::Stop, "the amount is below the instrument's least"),
    code(10003, "order_overlap", Category::Order, Recovery::Stop, "the order would trade with one of our own, which the account forbids"),
    code(10004, "order_not_found", Category::Order, Recovery::Stop, "there is no order of this id or label; it may be filled or cancelled already"),
    code(10005, "price_too_low", Category::Order, Recovery::Stop, "the price is below what the venue allows now"),
    code(10006, "price_too_low4idx", Category::Order, Recovery::Stop, "the price is too far below the index"),
    code(10007, "price_too_high", Category::Order, Recovery::Stop, "the price is above what the venue allows now"),
    code(10009, "not_enough_funds", Category::Funds, Recovery::Stop, "the account lacks the funds or margin for this"),
    code(10010, "already_closed", Category::Order, Recovery::Stop, "the order is closed already"),
    code(10011, "price_not_allowed", Category::Order, Recovery::Stop, "this price is not allowed"),
    code(10012, "book_closed", Category::Market, Recovery::Stop, "the instrument's book is closed"),
    code(10013, "pme_max_total_open_orders", Category::Limit, Recovery::Stop, "too many open orders for this margin model"),
    code(10014, "pme_max_future_open_orders", Category::Limit, Recovery::Stop, "too many open orders in futures for this margin model"),
    code(10015, "pme_max_option_open_orders", Category::Limit, Recovery::Stop, "too many open orders in options for this margin model"),
    code(10016, "pme_max_future_open_orders_size", Category::Limit, Recovery::Stop, "open orders in futures are too large together for this margin model"),
    code(10017, "pme_max_option_open_orders_size", Category::Limit, Recovery::Stop, "open orders in options are too large together for this margin model"),
    code(10018, "non_pme_max_future_position_size", Category::Limit, Recovery::Stop, "the position in futures would be too large"),
    code(10019, "locked_by_admin", Category::Market, Recovery::Stop, "the venue has locked trading"),
    code(10020, "invalid_or_unsupported_instrument", Category::Request, Recovery::Stop, "there is no such instrument"),
    code(10021, "invalid_amount", Category::Order, Recovery::Stop, "the amount is not valid; it may have to be a multiple of the contract size"),
    code(10022, "invalid_quantity", Category::Order, Recovery::Stop, "the quantity is not a valid number"),
    code(10023, "invalid_price", Category::Order, Recovery::Stop, "the price is not a valid number"),
    code(10024, "invalid_max_show", Category::Order, Recovery::Stop, "max_show is not a valid number"),
    code(10025, "invalid_order_id", Category::Order, Recovery::Stop, "the order id is missing or of the wrong form"),
    code(10026, "price_precision_exceeded", Category::Order, Recovery::Stop, "the price has too many digits"),
    code(10027, "non_integer_contract_amount", Category::Order, Recovery::Stop, "the amount of a future is not a whole number of contracts"),
    code(10028, "too_many_requests", Category::RateLimit, Recovery::RetryAfter(CREDITS_REFILLED), "the account's credits are used up; the venue ends the session as well"),
    code(10029, "not_owner_of_order", Category::Order, Recovery::Stop, "the order is somebody else's"),
    code(10030, "must_be_websocket_request", Category::Request, Recovery::Stop, "the method is to be had over WebSocket only"),
    code(10031, "invalid_args_for_instrument", Category::Request, Recovery::Stop, "an argument does not fit this instrument"),
    code(10032, "whole_cost_too_low", Category::Order, Recovery::Stop, "the order's whole cost is too low"),
    code(10033, "not_implemented", Category::Request, Recovery::Stop, "the method is not implemented yet"),
    code(10034, "trigger_price_too_high", Category::Order, Recovery::Stop, "the trigger price is too high"),
    code(10035, "trigger_price_too_low", Category::Order, Recovery::Stop, "the trigger price is too low"),
    code(10036, "invalid_max_show_amount", Category::Order, Recovery::Stop, "max_show does not fit the amount"),
    code(10037, "non_pme_total_short_options_positions_size", Category::Limit, Recovery::Stop, "short positions in options are too large together"),
    code(10038, "pme_max_risk_reducing_orders", Category::Limit, Recovery::Stop, "too many open orders that reduce risk"),
    code(10039, "not_enough_funds_in_currency", Category::Funds, Recovery::Stop, "the account lacks funds in this currency"),
    code(10040, "retry", Category::Server, Recovery::Retry, "the venue cannot process it now and asks for another attempt"),
    code(10041, "settlement_in_progress", Category::Market, Recovery::Retry, "settlement is under way, which takes some seconds each day"),
    code(10043, "price_wrong_tick", Category::Order, Recovery::Stop, "the price is no multiple of the tick size"),
    code(10044, "trigger_price_wrong_tick", Category::Order, Recovery::Stop, "the trigger price is no multiple of the tick size"),
    code(10045, "can_not_cancel_liquidation_order", Category::Order, Recovery::Stop, "a liquidation's order cannot be cancelled"),
    code(10046, "can_not_edit_liquidation_order", Category::Order, Recovery::Stop, "a liquidation's order cannot be changed"),
    code(10047, "matching_engine_queue_full", Category::RateLimit, Recovery::Retry, "too many of our orders wait for the matching engine"),
    code(10048, "not_on_this_server", Category::Server, Recovery::Stop, "this server does not offer the operation"),
    code(10049, "cancel_on_disconnect_failed", Category::Server, Recovery::Retry, "cancel-on-disconnect could not be switched on"),
    code(10066, "too_many_concurrent_requests", Category::RateLimit, Recovery::Retry, "too many public requests are still being worked on"),
    code(10072, "disabled_while_position_lock", Category::Market, Recovery::Stop, "spot trading is disabled while the account may only reduce"),
    code(11008, "already_filled", Category::Order, Recovery::Stop, "the order is filled already"),
    code(11013, "max_spot_open_orders", Category::Limit, Recovery::Stop, "too many open spot orders"),
    code(11021, "post_only_price_modification_not_possible", Category::Order, Recovery::Stop, "the price of a post-only order cannot be changed like this"),
    code(11022, "max_spot_order_quantity", Category::Limit, Recovery::Stop, "the amount exceeds the limit of spot orders in this currency"),
    code(11029, "invalid_arguments", Category::Request, Recovery::Stop, "some argument is invalid"),
    code(11030, "other_reject", Category::Order, Recovery::Stop, "rejected for a rare reason that the message names"),
    code(11031, "other_error", Category::Server, Recovery::Stop, "failed for a rare reason that the message names"),
    code(11035, "no_more_triggers", Category::Limit, Recovery::Stop, "too many trigger orders"),
    code(11036, "invalid_trigger_price", Category::Order, Recovery::Stop, "the trigger price does not fit the last trade, index or mark price"),
    code(11037, "outdated_instrument_for_iv_order", Category::Market, Recovery::Stop, "the instrument takes no more orders by volatility"),
    code(11038, "no_adv_for_futures", Category::Order, Recovery::Stop, "advanced orders are not for futures"),
    code(11039, "no_adv_postonly", Category::Order, Recovery::Stop, "advanced orders cannot be post-only"),
    code(11041, "not_adv_order", Category::Order, Recovery::Stop, "the order is not an advanced one"),
    code(11042, "permission_denied", Category::Permission, Recovery::Stop, "the key or account may not do this"),
    code(11043, "bad_argument", Category::Request, Recovery::Stop, "an argument is bad"),
    code(11044, "not_open_order", Category::Order, Recovery::Stop, "the order is not open"),
    code(11045, "invalid_event", Category::Request, Recovery::Stop, "there is no such event"),
    code(11046, "outdated_instrument", Category::Market, Recovery::Stop, "the instrument expires within minutes"),
    code(11047, "unsupported_arg_combination", Category::Request, Recovery::Stop, "these arguments do not go together"),
    code(11048, "wrong_max_show_for_option", Category::Order, Recovery::Stop, "max_show is wrong for an option"),
    code(11049, "bad_arguments", Category::Request, Recovery::Stop, "several arguments are bad"),
    code(11050, "bad_request", Category::Request, Recovery::Stop, "the request could not be read"),
    code(11051, "system_maintenance", Category::Market, Recovery::RetryAfter(MAINTENANCE), "the venue is under maintenance, which takes minutes"),
    code(11052, "subscribe_error_unsubscribed", Category::Subscription, Recovery::Stop, "some channels were not subscribed; compare the list with what was asked"),
    code(11053, "transfer_not_found", Category::Request, Recovery::Stop, "there is no such transfer"),
    code(11054, "post_only_reject", Category::Order, Recovery::Stop, "the order would have taken from the book, and reject_post_only was set"),
    code(11055, "post_only_not_allowed", Category::Order, Recovery::Stop, "orders of this type cannot be post-only"),
    code(11056, "unauthenticated_public_requests_temporarily_disabled", Category::Authorization, Recovery::Reauthenticate, "for now, public requests need an authenticated connection too"),
    code(11094, "internal_server_error", Category::Server, Recovery::Retry, "something failed in the venue"),
    code(11098, "account_locked", Category::Permission, Recovery::Stop, "the account is locked"),
    code(12001, "too_many_subaccounts", Category::Limit, Recovery::Stop, "there are as many subaccounts as there may be"),
    code(12003, "login_over_limit", Category::RateLimit, Recovery::Stop, "too many failed logins"),
    code(12005, "country_is_banned", Category::Permission, Recovery::Stop, "the venue does not serve this country"),
    code(12998, "security_key_authorization_over_limit", Category::RateLimit, Recovery::Stop, "too many failed authorizations with a security key"),
    code(13004, "invalid_credentials", Category::Credentials, Recovery::Stop, "the client id or secret is wrong, or of the other network; another attempt cannot help"),
    code(13007, "user_not_found", Category::Credentials, Recovery::Stop, "the user's security code was changed or is wrong"),
    code(13008, "request_failed", Category::Server, Recovery::Stop, "the request failed by its input or in the venue"),
    code(13009, "unauthorized", Category::Authorization, Recovery::Reauthenticate, "the token is wrong, expired or of another connection, or the signature is bad"),
    code(13010, "value_required", Category::Request, Recovery::Stop, "a value is missing"),
    code(13011, "value_too_short", Category::Request, Recovery::Stop, "a value is too short"),
    code(13012, "unavailable_in_subaccount", Category::Permission, Recovery::Stop, "subaccounts may not do this"),
    code(13016, "invalid_input", Category::Request, Recovery::Stop, "the input is invalid"),
    code(13017, "subscription_failed", Category::Subscription, Recovery::Stop, "the channel could not be subscribed"),
    code(13018, "invalid_content_type", Category::Request, Recovery::Stop, "the content type is invalid"),
    code(13019, "orderbook_closed", Category::Market, Recovery::Stop, "the instrument's book is closed or expired"),
    code(13020, "not_found", Category::Request, Recovery::Stop, "there is no such instrument"),
    code(13021, "forbidden", Category::Permission, Recovery::Stop, "the scope of the token does not allow this"),
    code(13025, "method_switched_off_by_admin", Category::Market, Recovery::Stop, "the venue has switched the method off"),
    code(13028, "temporarily_unavailable", Category::Server, Recovery::Retry, "the service behind the method does not answer"),
    code(13030, "mmp_trigger", Category::Order, Recovery::Stop, "market maker protection has been triggered; it has to be reset"),
    code(13031, "verification_required", Category::Permission, Recovery::Stop, "the account has to be verified first"),
    code(13032, "non_unique_order_label", Category::Order, Recovery::Stop, "more than one order bears this label"),
    code(13035, "active_combo_limit_reached", Category::Limit, Recovery::Retry, "there are as many combos as there may be; later there may be room"),
    code(13036, "unavailable_for_combo_books", Category::Market, Recovery::Retry, "not possible for combos at the moment"),
    code(13040, "mmp_required", Category::Permission, Recovery::Stop, "the account has no market maker protection"),
    code(13042, "cod_not_enabled", Category::Request, Recovery::Stop, "cancel-on-disconnect is not on for this connection"),
    code(13043, "quotes_frozen", Category::Order, Recovery::Stop, "quotes are still frozen after they were cancelled"),
    code(13403, "scope_exceeded", Category::Permission, Recovery::Stop, "the scope of the token does not allow changes of keys"),
    code(13503, "unavailable", Category::Market, Recovery::Stop, "the method is not available at present"),
    code(13666, "request_cancelled_by_user", Category::Order, Recovery::Stop, "another request of ours cancelled this one"),
    code(13777, "replaced", Category::Order, Recovery::Stop, "another change of the order replaced this one"),
    code(13778, "raw_subscriptions_not_available_for_unauthorized", Category::Authorization, Recovery::Stop, "raw channels need a session with credentials"),
    code(13780, "move_positions_over_limit", Category::RateLimit, Recovery::Stop, "positions were moved too often; the error's data says how long to wait"),
    code(13888, "timed_out", Category::Server, Recovery::Reconcile, "the venue did not come to it in time; it may have been executed all the same"),
    code(13901, "no_more_oto_orders", Category::Limit, Recovery::Stop, "too many orders that trigger others"),
    code(13902, "mass_quotes_disabled", Category::Permission, Recovery::Stop, "the account may not quote in bulk in this currency"),
    code(13903, "too_many_quotes", Category::RateLimit, Recovery::Retry, "too many quotes a second"),
    code(13904, "security_key_setup_required", Category::Permission, Recovery::Stop, "the account has to set its security keys up first"),
];

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
        for code in [i64::MIN, -1, 0, 1, 9_999, 99_999, i64::MAX] {
            assert_eq!(ErrorCode::of(code), None);
            assert_eq!(recovery(code), Recovery::Stop, "{code}");
        }
    }

    #[test]
    fn the_table_is_in_order_and_says_something_of_each_number() {
        for pair in TABLE.windows(2) {
            assert!(pair[0].code < pair[1].code, "{}", pair[1].code);
        }
        for entry in ErrorCode::all() {
            assert_eq!(ErrorCode::of(entry.code), Some(entry));
            assert!(
                !entry.name.is_empty() && !entry.name.contains(' '),
                "{}",
                entry.name
            );
            assert!(entry.explanation.len() > 10, "{}", entry.name);
            assert!(!entry.explanation.ends_with('.'), "{}", entry.name);
        }
    }

    #[test]
    fn categories_and_recoveries_agree() {
        for entry in TABLE {
            let expected = match entry.category {
                // What is wrong with us stays wrong.
                Category::Request
                | Category::Credentials
                | Category::Permission
                | Category::Funds
                | Category::Order
                | Category::Subscription => Some(Recovery::Stop),
                Category::Authorization
                | Category::RateLimit
                | Category::Limit
                | Category::Market
                | Category::Server => None,
            };
            assert!(
                expected.is_none_or(|one| one == entry.recovery),
                "{}",
                entry.code
            );
        }
    }
}
