cd /tmp/lead && ACMED_SYSTEMD=1 timeout 580 go test -count=1 -timeout 570s -run "TestGuides/$1" ./test/systemd
