//! What a collector has to have received of the table of metrics.

use std::collections::BTreeMap;

use mainstay::instruments::{Kind, TABLE};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint};

use super::receiver::Received;

/// One metric as it arrived: its kind, and its largest number. A histogram's is how often it was recorded.
struct Arrived<'r> {
    kind: Kind,
    largest: f64,
    attributes: Vec<&'r [KeyValue]>,
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(Value::AsInt(number)) => number as f64,
        Some(Value::AsDouble(number)) => number,
        None => 0.0,
    }
}

fn arrived(metric: &Metric) -> Arrived<'_> {
    let (kind, points) = match metric.data.as_ref().expect("data") {
        Data::Sum(sum) if sum.is_monotonic => (Kind::Counter, &sum.data_points),
        Data::Sum(sum) => (Kind::UpDownCounter, &sum.data_points),
        Data::Gauge(gauge) => (Kind::Gauge, &gauge.data_points),
        Data::Histogram(histogram) => {
            let points = &histogram.data_points;
            let counts = points.iter().map(|point| point.count as f64);
            return Arrived {
                kind: Kind::Histogram,
                largest: counts.fold(0.0, f64::max),
                attributes: points.iter().map(|one| &*one.attributes).collect(),
            };
        }
        other => panic!("{other:?}"),
    };
    Arrived {
        kind,
        largest: points.iter().map(number).fold(0.0, f64::max),
        attributes: points.iter().map(|one| &*one.attributes).collect(),
    }
}

/// Every row has arrived with its kind, its unit and its attributes, and with more than nothing.
pub(crate) fn assert_every_metric_has_a_value(received: &Received) {
    assert_table(received, |largest| largest > 0.0);
}

/// As above, but the number may be nothing: a queue that is empty has that depth.
pub(crate) fn assert_every_metric_has_arrived(received: &Received) {
    assert_table(received, |_| true);
}

fn assert_table(received: &Received, is_told: impl Fn(f64) -> bool) {
    let resources = received
        .metrics
        .iter()
        .flat_map(|one| &one.resource_metrics);
    let scopes = resources.flat_map(|one| &one.scope_metrics);
    let ours = scopes.filter(|one| one.scope.as_ref().is_some_and(|it| it.name == "mainstay"));
    let mut metrics = BTreeMap::new();
    for metric in ours.flat_map(|one| &one.metrics) {
        // The last that came.
        metrics.insert(metric.name.as_str(), metric);
    }
    for row in TABLE {
        let metric = metrics.remove(row.name());
        let metric = metric.unwrap_or_else(|| panic!("{} has not arrived", row.name()));
        let arrived = arrived(metric);
        assert_eq!(metric.unit, row.unit(), "{}", row.name());
        assert_eq!(metric.description, row.description(), "{}", row.name());
        assert_eq!(arrived.kind, row.kind(), "{}", row.name());
        assert!(
            is_told(arrived.largest),
            "{} has no value: {metric:?}",
            row.name()
        );
        assert!(
            !arrived.attributes.is_empty(),
            "{} has no point",
            row.name()
        );
        for attributes in arrived.attributes {
            let mut names: Vec<&str> = attributes.iter().map(|one| one.key.as_str()).collect();
            names.sort_unstable();
            let mut wanted = row.attributes().to_vec();
            wanted.sort_unstable();
            assert_eq!(names, wanted, "{}", row.name());
        }
    }
    let unknown: Vec<&&str> = metrics.keys().collect();
    assert!(unknown.is_empty(), "{unknown:?} are not in the table");
}
