package conformance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/openziti/identity"
	"github.com/openziti/sdk-golang/v2/ziti/enroll"
)

// router is a router that lives in this test: its key, and the files that hold its identity.
type router struct {
	id     string
	key    *ecdsa.PrivateKey
	folder string
	files  identity.Identity
}

// enrolled enrolls a router with its token: the SDK checks the token and fetches the CA, the identity library loads what comes of it.
func enrolled(t *testing.T, c *controller, name string) *router {
	t.Helper()
	id, token := c.createRouter(t, name)
	claims, _, err := enroll.ParseToken(token)
	if err != nil {
		t.Fatalf("the token is not signed by the controller's leaf: %v", err)
	}
	if claims.Subject != id || claims.EnrollmentMethod != "erott" {
		t.Fatalf("the token is for somebody else: %+v", claims)
	}
	first := x509.NewCertPool()
	first.AddCert(claims.SignatureCert)
	authorities := enroll.FetchCertificates(claims.Issuer, first)
	if len(authorities) == 0 {
		t.Fatal("the controller tells no certificate authority")
	}
	var bundle []byte
	trust := x509.NewCertPool()
	for _, authority := range authorities {
		trust.AddCert(authority)
		bundle = append(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Raw})...)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &router{id: id, key: key, folder: t.TempDir()}
	request, err := json.Marshal(map[string]string{"certCsr": string(r.csr(t)), "serverCertCsr": string(r.csr(t))})
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust}}, Timeout: patience}
	response, err := client.Post(claims.EnrolmentUrl(), "application/json", bytes.NewReader(request))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("enrollment: %s %v\n%s", response.Status, err, answer)
	}
	var certs struct {
		Data struct{ Cert, ServerCert, Ca string }
	}
	if err := json.Unmarshal(answer, &certs); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	r.write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	r.write(t, "ca.pem", append(bundle, certs.Data.Ca...))
	r.write(t, "client.pem", []byte(certs.Data.Cert))
	r.write(t, "server.pem", []byte(certs.Data.ServerCert))
	r.files, err = identity.LoadIdentity(identity.Config{
		Key: r.file("key.pem"), Cert: r.file("client.pem"), ServerCert: r.file("server.pem"), CA: r.file("ca.pem"),
	})
	if err != nil {
		t.Fatalf("OpenZiti's library does not load what enrollment gave: %v", err)
	}
	return r
}

func (r *router) file(name string) string {
	return filepath.Join(r.folder, name)
}

func (r *router) write(t *testing.T, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(r.file(name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// csr asks for a leaf of its name and its key.
func (r *router) csr(t *testing.T) []byte {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.id}, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, r.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// leafOf gives the first certificate of a chain in PEM.
func leafOf(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
