FROM scratch
MAINTAINER A Person <a@example.com>
