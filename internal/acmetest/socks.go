package acmetest

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
)

// StartSOCKS runs a SOCKS5 proxy (RFC 1928) until the test ends, for those with the user name and password of auth,
// USER:PASSWORD (RFC 1929).
func StartSOCKS(t testing.TB, auth string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	p := &Proxy{URL: "socks5://" + l.Addr().String()}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if address, err := socksRequest(conn, auth); err == nil {
					p.mu.Lock()
					p.hosts = append(p.hosts, address)
					p.mu.Unlock()
					relay(conn, address)
				}
			}()
		}
	}()
	return p
}

func relay(conn net.Conn, address string) {
	out, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if _, err := conn.Write([]byte{5, 0, 0, 1, 127, 0, 0, 1, 0, 0}); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(out, conn)
		_ = out.Close()
	}()
	_, _ = io.Copy(conn, out)
}

// socksRequest answers the greeting and the password, and returns where the client wants to be connected.
func socksRequest(conn net.Conn, auth string) (address string, err error) {
	read := func(n byte) []byte {
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(conn, b)
		}
		return b
	}
	write := func(b ...byte) {
		if err == nil {
			_, err = conn.Write(b)
		}
	}
	read(read(2)[1]) // version, and the methods that the client knows
	write(5, 2)
	user := string(read(read(2)[1]))
	if user+":"+string(read(read(1)[0])) != auth && err == nil {
		write(1, 1)
		return "", errors.New("another user or password")
	}
	write(1, 0)
	var host string
	switch read(4)[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 3:
		host = string(read(read(1)[0]))
	default:
		return "", errors.New("no address")
	}
	port := binary.BigEndian.Uint16(read(2))
	return net.JoinHostPort(host, strconv.Itoa(int(port))), err
}
