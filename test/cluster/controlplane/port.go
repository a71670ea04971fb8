package controlplane

import (
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// Ports are taken from below the range from which Linux (32768) and macOS
// (49152) give ports to outgoing connections: between our choice and the
// program's bind, a connection of anyone's could otherwise sit on the port.
const (
	firstPort = 20000
	portCount = 10000
)

// ports remembers what this process has given out, so that two clusters that
// start at once never share. Another process may still be faster: Start then
// tries again with other ports.
var ports = struct {
	sync.Mutex
	given map[int]bool
}{given: map[int]bool{}}

// freePort chooses a port of 127.0.0.1 on which nobody listens.
func freePort() (string, error) {
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(portCount)
		if ports.given[port] {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, strconv.Itoa(port))) //nolint:noctx // Listening on loopback doesn't block.
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return "", err
		}
		ports.given[port] = true
		return strconv.Itoa(port), nil
	}
	return "", errors.New("no free port on 127.0.0.1 between 20000 and 29999")
}

const loopback = "127.0.0.1"
