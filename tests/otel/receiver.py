"""An OTLP receiver of grpcio and opentelemetry-proto: prints its port and, when its input ends, what came, as JSON."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc

came = {"services": [], "spans": [], "records": [], "metrics": []}


def service(resource):
    came["services"] += [a.value.string_value for a in resource.attributes if a.key == "service.name"]


def points(metric):
    return len(getattr(metric, metric.WhichOneof("data")).data_points)


class Traces(trace_grpc.TraceServiceServicer):
    def Export(self, request, context):
        for one in request.resource_spans:
            service(one.resource)
            came["spans"] += [[s.name, s.trace_id.hex()] for scope in one.scope_spans for s in scope.spans]
        return trace.ExportTraceServiceResponse()


class Logs(logs_grpc.LogsServiceServicer):
    def Export(self, request, context):
        for one in request.resource_logs:
            service(one.resource)
            came["records"] += [[r.body.string_value, r.trace_id.hex()] for s in one.scope_logs for r in s.log_records]
        return logs.ExportLogsServiceResponse()


class Metrics(metrics_grpc.MetricsServiceServicer):
    def Export(self, request, context):
        for one in request.resource_metrics:
            service(one.resource)
            came["metrics"] += [[m.name, points(m)] for scope in one.scope_metrics for m in scope.metrics]
        return metrics.ExportMetricsServiceResponse()


server = grpc.server(ThreadPoolExecutor(4))
trace_grpc.add_TraceServiceServicer_to_server(Traces(), server)
logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)
metrics_grpc.add_MetricsServiceServicer_to_server(Metrics(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(1).wait()
print(json.dumps(came))
