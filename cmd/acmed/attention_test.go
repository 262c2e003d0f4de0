package main

import (
	"slices"
	"testing"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/renewal"
)

// TestAttentionShowsWarnings: what will stand in the way of a renewal is a line of status while all is still well.
func TestAttentionShowsWarnings(t *testing.T) {
	caa := "the CAA records of example.com forbid backup to issue for www.example.com"
	got := attention(renewal.Status{Health: renewal.HealthOK, Warnings: []string{caa}}, time.Now())
	if want := []string{"warning: " + caa}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
