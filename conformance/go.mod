module github.com/exuvia/exuvia/conformance

go 1.26.4

require (
	github.com/openziti/channel/v5 v5.0.27
	github.com/openziti/identity v1.0.140
	github.com/openziti/sdk-golang/v2 v2.0.0-pre4
	github.com/openziti/transport/v2 v2.0.220
	google.golang.org/protobuf v1.36.12
)
