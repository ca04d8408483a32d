FROM debian
RUN ['single', 'quotes']
RUN ["unclosed"
CMD ["a"] && b
ENTRYPOINT [ -x /init ]
