package conformance

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/openziti/channel/v5"
	"github.com/openziti/identity"
)

// stand is a controller made of OpenZiti's library, in the place of ours: same port, same keys.
type stand struct {
	channels  chan channel.Channel
	underlays *underlays
	beats     *beats
	verified  chan []byte
	signer    *x509.Certificate
	key       *ecdsa.PrivateKey
}

func standInFor(t *testing.T, c *controller) *stand {
	t.Helper()
	files, err := identity.LoadIdentity(identity.Config{
		Key: c.pki("key.pem"), Cert: c.pki("client.pem"), ServerCert: c.pki("server.pem"), CA: c.pki("bundle.pem"),
	})
	if err != nil {
		t.Fatalf("OpenZiti's library does not load our controller's files: %v", err)
	}
	s := &stand{
		channels: make(chan channel.Channel, 4), underlays: newUnderlays(), beats: newBeats(), verified: make(chan []byte, 4),
	}
	s.signer, s.key = signerOf(t, c)
	config := channel.DefaultListenerConfig()
	config.Headers = map[int32][]byte{
		channel.HelloVersionHeader: []byte(version), headerCapabilities: {0x7e}, headerLegacyCapabilities: {0x7e},
	}
	config.TransportConfig = controlPlane
	groups := channel.NewMultiListener(s.open, func(channel.Underlay) error {
		return fmt.Errorf("a router of ours opens groups only")
	})
	token := &identity.TokenId{Identity: files, Token: "controller"}
	listener, err := channel.NewClassicListenerWithAcceptor(token, address(t, fmt.Sprintf("tls:127.0.0.1:%d", c.ctrlPort)), config, groups)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return s
}

func (s *stand) open(underlay channel.Underlay, closed func()) (channel.Channel, error) {
	sending := newSenders()
	opened, err := channel.NewChannel(&channel.Config{
		LogicalName: "ctrl", Options: channel.DefaultOptions(), Underlay: underlay,
		Senders: sending, MessageSourceProvider: sending.source(), MinTotalUnderlays: 1,
		UnderlayEventListeners: []channel.UnderlayEventListener{s.underlays},
		Binder: channel.MakeBinder(channel.BindHandlerF(func(binding channel.Binding) error {
			binding.AddReceiveHandlerF(typeExtensionRequest, s.extend)
			binding.AddReceiveHandlerF(typeExtensionVerify, s.verify)
			binding.AddCloseHandler(channel.CloseHandlerF(func(channel.Channel) { closed() }))
			channel.ConfigureHeartbeat(binding, 200*time.Millisecond, 50*time.Millisecond, s.beats)
			return nil
		})),
	})
	if err == nil {
		s.channels <- opened
	}
	return opened, err
}

// extend signs what a router asks for; like a stock controller it says nothing where it cannot.
func (s *stand) extend(request *channel.Message, ch channel.Channel) {
	asked := fields{}
	for number, value := range decodeOrNothing(request.Body) {
		asked[number] = value
	}
	client, server := s.sign(asked[1]), s.sign(asked[2])
	if client == nil || server == nil {
		return
	}
	_ = channel.NewMessage(typeEnrollmentCerts, fields{1: client, 2: server}.encode()).Send(ch)
}

func (s *stand) verify(request *channel.Message, ch channel.Channel) {
	s.verified <- decodeOrNothing(request.Body)[1]
	_ = channel.NewMessage(typeError, nil).ReplyTo(request).Send(ch)
}

func (s *stand) sign(csr []byte) []byte {
	block, _ := pem.Decode(csr)
	if block == nil {
		return nil
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.CheckSignature() != nil {
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: request.Subject, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.signer, request.PublicKey, s.key)
	if err != nil {
		return nil
	}
	return append(pemOf(der), pemOf(s.signer.Raw)...)
}

// ours is a router of ours, enrolled and running.
type ours struct {
	*daemon
	id, home, config string
}

func startRouter(t *testing.T, c *controller) *ours {
	t.Helper()
	id, token := c.createRouter(t, "edge-1")
	home := t.TempDir()
	config := filepath.Join(home, "router.yml")
	text := fmt.Sprintf("v: 3\nidentity:\n  cert: %[1]s/client.pem\n  server_cert: %[1]s/server.pem\n  key: %[1]s/key.pem\n  ca: %[1]s/ca.pem\n"+
		"ctrl:\n  endpointsFile: %[1]s/endpoints.yml\nedge:\n  csr:\n    sans:\n      dns: [localhost]\n"+
		"exuvia: {spacing: 0, backoffMin: 20ms, backoffMax: 200ms}\n", home)
	for name, text := range map[string]string{"router.yml": text, "router.jwt": token} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	finished(t, home, "router", "enroll", config, "--jwt", filepath.Join(home, "router.jwt"))
	c.kill()
	return &ours{id: id, home: home, config: config}
}

func (r *ours) run(t *testing.T) {
	t.Helper()
	r.daemon = started(t, r.home, "router", "run", r.config)
}

func TestARouterOpensAGroupedChannelAndAnswers(t *testing.T) {
	c := startController(t)
	r := startRouter(t, c)
	s := standInFor(t, c)
	r.run(t)
	ch := receivedChannel(t, s, r)
	if ch.Id() != r.id {
		t.Fatalf("it calls itself %q", ch.Id())
	}
	s.beats.until(t)
	hello := channel.NewMessage(typeServerHello, fields{1: []byte("v2.1.0")}.encode())
	reply, err := hello.WithTimeout(patience).SendForReply(ch)
	if err != nil || reply.ContentType != typeClientHello {
		t.Fatalf("a greeting is answered with %v, %v", reply, err)
	}
	inspect := channel.NewMessage(typeInspectRequest, fields{1: []byte("links")}.encode())
	reply, err = inspect.WithTimeout(patience).SendForReply(ch)
	if err != nil || reply.ContentType != typeInspectResponse {
		t.Fatalf("an inspection is answered with %v, %v", reply, err)
	}
	// Nobody knows this one: it is ignored, and the channel lives.
	if err := channel.NewMessage(31_337, []byte("?")).WithTimeout(patience).SendAndWaitForWire(ch); err != nil {
		t.Fatal(err)
	}
	if reply, err = hello2().WithTimeout(patience).SendForReply(ch); err != nil || reply.ContentType != typeClientHello {
		t.Fatalf("after a message that nobody knows: %v, %v", reply, err)
	}
}

func TestARouterRenewsOnAGoControllerAndProvesItByAFurtherUnderlay(t *testing.T) {
	c := startController(t)
	r := startRouter(t, c)
	s := standInFor(t, c)
	r.run(t)
	ch := receivedChannel(t, s, r)
	finished(t, r.home, "router", "renew", r.config)
	var verified []byte
	select {
	case verified = <-s.verified:
	case <-time.After(patience):
		t.Fatalf("it never says that it stored the certificates:\n%s", r.log())
	}
	fresh := leafOf(t, verified)
	s.underlays.until(t, ch, func(all []channel.Underlay) bool {
		for _, one := range all {
			if certs := one.Certificates(); len(certs) > 0 && bytes.Equal(certs[0].Raw, fresh.Raw) {
				return true
			}
		}
		return false
	})
	if ch.IsClosed() {
		t.Fatal("the channel did not live through the renewal")
	}
	select {
	case <-s.channels:
		t.Fatal("it opened a second channel")
	default:
	}
}

func receivedChannel(t *testing.T, s *stand, r *ours) channel.Channel {
	t.Helper()
	select {
	case ch := <-s.channels:
		return ch
	case <-time.After(patience):
		t.Fatalf("it opens no channel:\n%s", r.log())
		return nil
	}
}
