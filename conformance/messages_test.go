package conformance

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Content types and headers of the control plane that the channel library does not name.
const (
	typeInspectRequest   = 1013
	typeInspectResponse  = 1014
	typeServerHello      = 20000
	typeClientHello      = 20001
	typeError            = 20002
	typeEnrollmentCerts  = 20301
	typeExtensionRequest = 20302
	typeExtensionVerify  = 20303

	headerCapabilities       = 1002
	headerLegacyCapabilities = 12

	underlayDefault = "ctrl.default"
	underlayHigh    = "ctrl.high"
)

// A version as both sides write it into header 4.
const version = "v2.1.0|conformance|2026-01-01T00:00:00Z|linux|amd64"

// fields holds a protobuf message of texts and bools, by field number; the last value of a field counts.
type fields map[protowire.Number][]byte

func (f fields) encode() []byte {
	var out []byte
	for number := protowire.Number(1); number < 16; number++ {
		if value, found := f[number]; found {
			out = protowire.AppendTag(out, number, protowire.BytesType)
			out = protowire.AppendBytes(out, value)
		}
	}
	return out
}

func decodeFields(t *testing.T, body []byte) fields {
	t.Helper()
	found := fields{}
	for len(body) > 0 {
		number, kind, length := protowire.ConsumeTag(body)
		if length < 0 {
			t.Fatalf("no protobuf: %x", body)
		}
		body = body[length:]
		if kind == protowire.BytesType {
			value, length := protowire.ConsumeBytes(body)
			if length < 0 {
				t.Fatalf("no text in field %d: %x", number, body)
			}
			found[number], body = value, body[length:]
			continue
		}
		length = protowire.ConsumeFieldValue(number, kind, body)
		if length < 0 {
			t.Fatalf("field %d is cut short: %x", number, body)
		}
		body = body[length:]
	}
	return found
}

// requestVerified is field 3 of an extension request: the router will say when it has stored the certificates.
func requestVerified(clientCsr, serverCsr []byte) []byte {
	out := fields{1: clientCsr, 2: serverCsr}.encode()
	out = protowire.AppendTag(out, 3, protowire.VarintType)
	return protowire.AppendVarint(out, 1)
}
