package issuer_test

import (
	"fmt"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

func BenchmarkObtain(b *testing.B) {
	w := newWorld(b)
	n := 0
	for _, names := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			for b.Loop() {
				n++
				var list []string
				for i := range names {
					list = append(list, fmt.Sprintf("n%d-%d.example.com", n, i))
				}
				if _, err := w.Obtain(b.Context(), w.named(fmt.Sprintf("c%d", n), list...)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkBare(b *testing.B) {
	ca := acmetest.Start(b)
	bare, err := acmetest.NewBare(ca.Server)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	for _, names := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(names), func(b *testing.B) {
			for b.Loop() {
				n++
				var list []string
				for i := range names {
					list = append(list, fmt.Sprintf("n%d-%d.example.com", n, i))
				}
				if _, _, err := bare.Order(b.Context(), "default", list...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
