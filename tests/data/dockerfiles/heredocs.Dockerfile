FROM debian
ENV NAME=world
RUN <<EOF
echo one
EOF
RUN <<"PROGRAM"
#!/usr/bin/env python3
print("$NAME")
PROGRAM
RUN cat <<ONE - <<-TWO > /out
first
ONE
	second
	TWO
COPY <<EOF <<'RAW' <<-TABS /etc/conf.d/
hello $NAME
EOF
hello $NAME
RAW
	hello
	TABS
ADD <<one.txt /one.txt
1
one.txt
