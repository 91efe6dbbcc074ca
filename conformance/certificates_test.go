package conformance

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"testing"

	"github.com/openziti/channel/v5"
	"google.golang.org/protobuf/encoding/protowire"
)

func pemOf(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// signerOf reads the signing CA of a controller of ours.
func signerOf(t *testing.T, c *controller) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	cert, err := os.ReadFile(c.pki("signer.pem"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(c.pki("signer.key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no key of the signer")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, isEcdsa := parsed.(*ecdsa.PrivateKey)
	if !isEcdsa {
		t.Fatalf("the signer's key is a %T", parsed)
	}
	return leafOf(t, cert), key
}

// hello2 greets once more.
func hello2() *channel.Message {
	return channel.NewMessage(typeServerHello, fields{1: []byte("v2.1.0")}.encode())
}

// decodeOrNothing reads texts where a handler has no test to fail.
func decodeOrNothing(body []byte) fields {
	found := fields{}
	for len(body) > 0 {
		number, kind, length := protowire.ConsumeTag(body)
		if length < 0 {
			return found
		}
		body = body[length:]
		length = protowire.ConsumeFieldValue(number, kind, body)
		if length < 0 {
			return found
		}
		if kind == protowire.BytesType {
			found[number], _ = protowire.ConsumeBytes(body)
		}
		body = body[length:]
	}
	return found
}
