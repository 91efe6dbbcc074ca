package conformance

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/openziti/channel/v5"
	"github.com/openziti/identity"
)

// connected is a stock router's end of a control channel to a controller of ours.
type connected struct {
	channel.Channel
	underlays *underlays
	beats     *beats
	certs     chan *channel.Message
	greetings chan *channel.Message
}

// connect opens a grouped channel: the default underlay now, and the one for urgent messages as soon as the library gets to it.
func connect(t *testing.T, c *controller, r *router) *connected {
	t.Helper()
	dialer := channel.NewClassicDialer(channel.DialerConfig{
		Identity:        &identity.TokenId{Identity: r.files, Token: r.id},
		Endpoint:        address(t, fmt.Sprintf("tls:localhost:%d", c.ctrlPort)),
		Headers:         map[int32][]byte{channel.HelloVersionHeader: []byte(version), headerCapabilities: {0x02}},
		TransportConfig: controlPlane,
	})
	policy := channel.NewBackoffDialPolicyWithConfig(dialer, channel.BackoffConfig{
		BaseDelay: 50 * time.Millisecond, MaxDelay: time.Second,
	})
	opening := channel.Headers{}
	opening.PutStringHeader(channel.TypeHeader, underlayDefault)
	opening.PutBoolHeader(channel.IsGroupedHeader, true)
	opening.PutBoolHeader(channel.IsFirstGroupConnection, true)
	// An id without a name is none; the controller makes one up.
	opening.PutStringHeader(channel.ConnectionIdHeader, "")
	first, err := dialer.CreateWithHeaders(patience, opening)
	if err != nil {
		t.Fatalf("the hello is refused: %v\n%s", err, c.log())
	}
	sending := newSenders()
	made := &connected{
		underlays: newUnderlays(), beats: newBeats(),
		certs: make(chan *channel.Message, 4), greetings: make(chan *channel.Message, 4),
	}
	made.Channel, err = channel.NewChannel(&channel.Config{
		LogicalName: "ctrl", Options: channel.DefaultOptions(), Underlay: first,
		Senders: sending, MessageSourceProvider: sending.source(), DialPolicy: policy,
		Constraints:            map[string]channel.UnderlayConstraint{underlayDefault: channel.OneUnderlay(), underlayHigh: channel.OptionalUnderlays(1)},
		UnderlayEventListeners: []channel.UnderlayEventListener{made.underlays},
		Binder: channel.MakeBinder(channel.BindHandlerF(func(binding channel.Binding) error {
			binding.AddReceiveHandlerF(typeEnrollmentCerts, func(m *channel.Message, _ channel.Channel) { made.certs <- m })
			binding.AddReceiveHandlerF(typeServerHello, func(m *channel.Message, _ channel.Channel) { made.greetings <- m })
			channel.ConfigureHeartbeat(binding, 200*time.Millisecond, 50*time.Millisecond, made.beats)
			return nil
		})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = made.Close() })
	return made
}

func hasBoth(all []channel.Underlay) bool {
	kinds := map[string]int{}
	for _, one := range all {
		kinds[channel.GetUnderlayType(one)]++
	}
	return len(all) == 2 && kinds[underlayDefault] == 1 && kinds[underlayHigh] == 1
}

func TestEnrollmentGivesAnIdentityThatTheLibraryLoads(t *testing.T) {
	c := startController(t)
	r := enrolled(t, c, "edge-1")
	leaf := r.files.Cert().Leaf
	if leaf == nil {
		leaf = leafOf(t, pemOf(r.files.Cert().Certificate[0]))
	}
	if leaf.Subject.CommonName != r.id {
		t.Fatalf("the leaf is that of %q", leaf.Subject.CommonName)
	}
}

func TestAControllerTakesAGroupedChannelAndKeepsItAlive(t *testing.T) {
	c := startController(t)
	ch := connect(t, c, enrolled(t, c, "edge-1"))
	if greeting := received(t, ch.greetings); greeting.ContentType != typeServerHello {
		t.Fatalf("not a greeting: %v", greeting)
	}
	ch.underlays.until(t, ch, hasBoth)
	ch.beats.until(t)
	reply, err := channel.NewMessage(channel.ContentTypePingType, nil).WithTimeout(patience).SendForReply(ch)
	if err != nil {
		t.Fatal(err)
	}
	if result := channel.UnmarshalResult(reply); !result.Success {
		t.Fatalf("a ping is refused: %s", result.Message)
	}
}

func TestNobodyJoinsAGroupWithoutItsSecret(t *testing.T) {
	c := startController(t)
	r := enrolled(t, c, "edge-1")
	ch := connect(t, c, r)
	dialer := channel.NewClassicDialer(channel.DialerConfig{
		Identity:        &identity.TokenId{Identity: r.files, Token: r.id},
		Endpoint:        address(t, fmt.Sprintf("tls:localhost:%d", c.ctrlPort)),
		Headers:         map[int32][]byte{channel.HelloVersionHeader: []byte(version), headerCapabilities: {0x02}},
		TransportConfig: controlPlane,
	})
	stranger, err := channel.NewBackoffDialPolicy(dialer).Dial(underlayHigh, ch.ConnectionId(), []byte("not the secret"), false, patience, nil)
	if err == nil {
		_ = stranger.Close()
		t.Fatal("it was let in")
	}
	if ch.IsClosed() {
		t.Fatal("and the channel was closed for it")
	}
}

func TestAControllerExtendsAndAdmitsTheNewLeaf(t *testing.T) {
	c := startController(t)
	r := enrolled(t, c, "edge-1")
	old := leafOf(t, pemOf(r.files.Cert().Certificate[0]))
	ch := connect(t, c, r)
	ch.underlays.until(t, ch, hasBoth)

	request := channel.NewMessage(typeExtensionRequest, requestVerified(r.csr(t), r.csr(t)))
	if err := request.WithTimeout(patience).Send(ch); err != nil {
		t.Fatal(err)
	}
	certs := received(t, ch.certs)
	if certs.IsReply() {
		t.Fatal("a stock router would take a marked reply for somebody else's")
	}
	chains := decodeFields(t, certs.Body)
	fresh := leafOf(t, chains[1])
	if bytes.Equal(fresh.Raw, old.Raw) || fresh.Subject.CommonName != r.id || !r.key.PublicKey.Equal(fresh.PublicKey) {
		t.Fatalf("not a new leaf of its own: %v", fresh.Subject)
	}
	r.write(t, "client.pem", chains[1])
	r.write(t, "server.pem", chains[2])
	verify := channel.NewMessage(typeExtensionVerify, fields{1: chains[1]}.encode())
	reply, err := verify.WithTimeout(patience).SendForReply(ch)
	if err != nil {
		t.Fatal(err)
	}
	if reply.ContentType != typeError || len(reply.Body) != 0 {
		t.Fatalf("not confirmed: %v %q", reply, reply.Body)
	}

	// The library serves the new leaf from now on; the underlay that it dials again presents it.
	if err := r.files.Reload(); err != nil {
		t.Fatal(err)
	}
	for _, one := range ch.GetUnderlays() {
		if channel.GetUnderlayType(one) == underlayHigh {
			_ = one.Close()
		}
	}
	ch.underlays.until(t, ch, func(all []channel.Underlay) bool { return !hasBoth(all) })
	ch.underlays.until(t, ch, hasBoth)
	ch.beats.until(t)
	if ch.IsClosed() {
		t.Fatal("the channel did not live through its renewal")
	}
}
