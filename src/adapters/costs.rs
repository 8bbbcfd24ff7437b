//! Price lists for [`RateLimits::costs`](crate::config::RateLimits::costs), as other clients use them.
//!
//! Apart from the venues' own limits because these are rules of thumb: relative weights for a single
//! bucket, when it matters more that a crowd of cheap requests passes than what exactly a venue counts.
//! Deribit's own scheme is [`deribit::rate_limits`](super::deribit::rate_limits).

use crate::config::limits::{Costs, Lane, Weight};

/// Everything costs 1.
#[must_use]
pub fn simple() -> Costs {
    Costs::new(1)
}

/// Methods about klines cost 2, others 1.
#[must_use]
pub fn binance() -> Costs {
    Costs::new(1).containing("klines", 2)
}

/// `public/*` 1, `private/get_*` 5, `private/set_*` 10, buying and selling 15, anything else 5. Cancels
/// use the reserved lane.
#[must_use]
pub fn deribit() -> Costs {
    Costs::new(5)
        .prefix("public/", 1)
        .prefix("private/get_", 5)
        .prefix("private/set_", 10)
        .exact("private/buy", 15)
        .exact("private/sell", 15)
        .prefix("private/cancel", Weight::new(5).lane(Lane::Reserved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_the_price_that_it_always_had() {
        let table = [
            ("public/ticker", 1),
            ("private/get_positions", 5),
            ("private/set_heartbeat", 10),
            ("private/buy", 15),
            ("private/sell", 15),
            ("private/edit", 5),
            ("private/cancel_all", 5),
            ("something", 5),
        ];
        for (method, cost) in table {
            assert_eq!(deribit().weigh(method).cost, cost, "{method}");
        }
        assert_eq!(binance().weigh("klines").cost, 2);
        assert_eq!(binance().weigh("uiKlines.klines").cost, 2);
        assert_eq!(binance().weigh("ticker").cost, 1);
        assert_eq!(simple().weigh("klines").cost, 1);
    }
}
