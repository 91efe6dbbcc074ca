package conformance

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/openziti/channel/v5"
	"github.com/openziti/transport/v2"
	"github.com/openziti/transport/v2/tls"
)

// controlPlane is what the TLS layer has to agree on.
var controlPlane = transport.Configuration{transport.KeyProtocol: "ziti-ctrl"}

func address(t *testing.T, text string) transport.Address {
	t.Helper()
	parsed, err := tls.AddressParser{}.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// senders is one queue for every underlay.
type senders struct {
	channel.SenderContext
	queue *channel.MessageQueue
}

func newSenders() *senders {
	context := channel.NewSenderContext()
	return &senders{SenderContext: context, queue: channel.NewMessageQueue(context, 16)}
}

func (s *senders) GetDefaultSender() channel.Sender {
	return s.queue.Sender
}

func (s *senders) HandleTxFailed(kind string, message channel.Sendable) bool {
	return channel.RetryToQueues(s.queue)(kind, message)
}

func (s *senders) source() *channel.SimpleMessageSourceProvider {
	return channel.NewSimpleMessageSourceProvider(channel.MakeSingleQueueMessageSource(s.GetCloseNotify(), s.queue.C))
}

// beats counts heartbeats.
type beats struct {
	came, answered atomic.Int32
	changed        chan struct{}
}

func newBeats() *beats {
	return &beats{changed: make(chan struct{}, 1)}
}

func (b *beats) note(count *atomic.Int32) {
	count.Add(1)
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

func (b *beats) HeartbeatTx(int64)     {}
func (b *beats) HeartbeatRespTx(int64) {}
func (b *beats) CheckHeartBeat()       {}
func (b *beats) HeartbeatRx(int64)     { b.note(&b.came) }
func (b *beats) HeartbeatRespRx(int64) { b.note(&b.answered) }

// until waits for a heartbeat of the other side and for two answers to ours.
func (b *beats) until(t *testing.T) {
	t.Helper()
	deadline := time.After(patience)
	for b.came.Load() < 1 || b.answered.Load() < 2 {
		select {
		case <-b.changed:
		case <-deadline:
			t.Fatalf("%d heartbeats came, %d of ours were answered", b.came.Load(), b.answered.Load())
		}
	}
}

// underlays tells when one is attached or lost.
type underlays struct {
	changed chan struct{}
}

func newUnderlays() *underlays {
	return &underlays{changed: make(chan struct{}, 64)}
}

func (u *underlays) UnderlayAdded(channel.Channel, channel.Underlay)   { u.changed <- struct{}{} }
func (u *underlays) UnderlayRemoved(channel.Channel, channel.Underlay) { u.changed <- struct{}{} }

// until waits until the channel's underlays are as wanted.
func (u *underlays) until(t *testing.T, ch channel.Channel, isWanted func([]channel.Underlay) bool) {
	t.Helper()
	deadline := time.After(patience)
	for !isWanted(ch.GetUnderlays()) {
		select {
		case <-u.changed:
		case <-deadline:
			t.Fatalf("the underlays are %v", ch.GetUnderlayCountsByType())
		}
	}
}

// received waits for one message of those that a handler passed on.
func received(t *testing.T, from <-chan *channel.Message) *channel.Message {
	t.Helper()
	select {
	case message := <-from:
		return message
	case <-time.After(patience):
		t.Fatal("no message comes")
		return nil
	}
}
