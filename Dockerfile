# A static binary, the CA roots and nothing else.
#   docker build --build-arg VERSION=$(git describe --tags --always --dirty) -t keda-kaito-scaler .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
# What --version says: the clone isn't here for Go to ask.
ARG VERSION=devel
WORKDIR /src
# Dependencies change less often than code: a layer of their own.
COPY go.mod go.sum ./
RUN go mod download
COPY cmd ./cmd
COPY internal ./internal
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
	go build -trimpath -ldflags "-s -w -X main.release=${VERSION}" -o /keda-kaito-scaler ./cmd/keda-kaito-scaler

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /keda-kaito-scaler /keda-kaito-scaler
# By number, so that the kubelet can tell that it isn't root.
USER 65532:65532
# gRPC, metrics, health.
EXPOSE 10450 10451 10452
ENTRYPOINT ["/keda-kaito-scaler"]
