package conformance

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Longest wait for anything; reached only when something is broken.
const patience = 60 * time.Second

const password = "correct-horse-battery"

func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("EXUVIA_BIN")
	if path == "" {
		t.Fatal("EXUVIA_BIN names no program; `cargo xtask conformance` sets it")
	}
	return path
}

func command(t *testing.T, home string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "EXUVIA_LOG_FORMAT=json", "EXUVIA_PASSWORD=" + password}
	// The kernel ends it when the test ends, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// finished runs a command to its end, which must be a good one.
func finished(t *testing.T, home string, args ...string) {
	t.Helper()
	if out, err := command(t, home, args...).CombinedOutput(); err != nil {
		t.Fatalf("exuvia %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// daemon is a process of ours that runs until the test is over.
type daemon struct {
	cmd  *exec.Cmd
	lock sync.Mutex
	said []string
	more chan struct{}
}

func started(t *testing.T, home string, args ...string) *daemon {
	t.Helper()
	cmd := command(t, home, args...)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cmd: cmd, more: make(chan struct{}, 1)}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for lines := bufio.NewScanner(pipe); lines.Scan(); {
			d.lock.Lock()
			d.said = append(d.said, lines.Text())
			d.lock.Unlock()
			select {
			case d.more <- struct{}{}:
			default:
			}
		}
	}()
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait()
}

func (d *daemon) log() string {
	d.lock.Lock()
	defer d.lock.Unlock()
	return strings.Join(d.said, "\n")
}

// until waits for a line of its log with all of these words.
func (d *daemon) until(t *testing.T, words ...string) {
	t.Helper()
	deadline := time.After(patience)
	for next := 0; ; {
		d.lock.Lock()
		lines := d.said[next:]
		next = len(d.said)
		d.lock.Unlock()
		for _, line := range lines {
			has := true
			for _, word := range words {
				has = has && strings.Contains(line, word)
			}
			if has {
				return
			}
		}
		select {
		case <-d.more:
		case <-deadline:
			t.Fatalf("%q does not come:\n%s", words, d.log())
		}
	}
}

// controller is a controller of ours.
type controller struct {
	*daemon
	home     string
	ctrlPort int
	apiPort  int
	trust    *x509.CertPool
	session  string
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func startController(t *testing.T) *controller {
	t.Helper()
	c := &controller{home: t.TempDir(), ctrlPort: freePort(t), apiPort: freePort(t), trust: x509.NewCertPool()}
	finished(t, c.home, "controller", "init", "ctl", "--listen", "127.0.0.1", "--address", "localhost",
		"--ctrl-port", fmt.Sprint(c.ctrlPort), "--api-port", fmt.Sprint(c.apiPort))
	bundle, err := os.ReadFile(c.pki("bundle.pem"))
	if err != nil || !c.trust.AppendCertsFromPEM(bundle) {
		t.Fatalf("no bundle: %v", err)
	}
	c.daemon = started(t, c.home, "controller", "run", "ctl/controller.yml")
	c.until(t, `"ready"`, "controller::daemon")
	login := c.ask(t, "POST", "/edge/management/v1/authenticate?method=password",
		map[string]any{"username": "admin", "password": password})
	c.session, _ = login["token"].(string)
	return c
}

// pki is a file of the controller's certificates.
func (c *controller) pki(name string) string {
	return filepath.Join(c.home, "ctl", "pki", name)
}

// ask is one request to the management API; it gives `data` of the answer.
func (c *controller) ask(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequest(method, fmt.Sprintf("https://localhost:%d%s", c.apiPort, path), bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("zt-session", c.session)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.trust}}, Timeout: patience}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode >= 300 {
		t.Fatalf("%s %s: %s %v\n%s", method, path, response.Status, err, answer)
	}
	var envelope struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil {
		t.Fatalf("%s %s: %v\n%s", method, path, err, answer)
	}
	return envelope.Data
}

// createRouter makes an edge router; it gives its id and its enrollment token.
func (c *controller) createRouter(t *testing.T, name string) (string, string) {
	t.Helper()
	made := c.ask(t, "POST", "/edge/management/v1/edge-routers", map[string]any{"name": name, "isTunnelerEnabled": false})
	id, _ := made["id"].(string)
	shown := c.ask(t, "GET", "/edge/management/v1/edge-routers/"+id, nil)
	token, _ := shown["enrollmentJwt"].(string)
	if id == "" || token == "" {
		t.Fatalf("no router: %v, %v", made, shown)
	}
	return id, token
}
