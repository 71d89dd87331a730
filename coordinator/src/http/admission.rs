//! Routes of the operator API as macros: who may use a method, and that nothing is read before that is known.

/// Who may use `$method`: everybody may read. `versioned` is what looks at `If-Match`.
macro_rules! admitted {
    (get, $app:expr, $headers:expr) => {
        $app.viewer($headers).await
    };
    ($method:ident, $app:expr, $headers:expr) => {
        $app.operator($headers).await
    };
    ($method:ident versioned, $app:expr, $headers:expr) => {
        $app.editor($headers).await
    };
}

/// `$method $path` with the token checked before anything is read, then `$handler`.
macro_rules! operator_route {
    ($app:expr, $path:expr, $method:ident $($versioned:ident)?, |$app_name:ident $(, $argument:ident)*| $handler:expr) => {
        $path
            .and(warp::$method())
            .and($crate::http::routes::with($app))
            .and(warp::header::headers_cloned())
            .then(|$($argument,)* $app_name: $crate::http::App, headers: http::HeaderMap| async move {
                $crate::http::problem::answer(async {
                    let $app_name = $crate::http::admission::admitted!($method $($versioned)?, $app_name, &headers)?;
                    $handler.await
                }.await)
            })
            .boxed()
    };
}

/// The same with a query.
macro_rules! operator_route_with_query {
    ($app:expr, $path:expr, $method:ident $($versioned:ident)?, |$app_name:ident $(, $argument:ident)*; $query:ident: $asked:ty| $handler:expr) => {
        $path
            .and(warp::$method())
            .and($crate::http::routes::with($app))
            .and(warp::header::headers_cloned())
            .and(warp::query::<$asked>())
            .then(|$($argument,)* $app_name: $crate::http::App, headers: http::HeaderMap, $query| async move {
                $crate::http::problem::answer(async {
                    let $app_name = $crate::http::admission::admitted!($method $($versioned)?, $app_name, &headers)?;
                    $handler.await
                }.await)
            })
            .boxed()
    };
}

/// The same with a body.
macro_rules! operator_route_with_body {
    ($app:expr, $path:expr, $method:ident $($versioned:ident)?, |$app_name:ident $(, $argument:ident)*; $body:ident| $handler:expr) => {
        $path
            .and(warp::$method())
            .and($crate::http::routes::with($app))
            .and(warp::header::headers_cloned())
            .and(warp::body::stream())
            .then(|$($argument,)* $app_name: $crate::http::App, headers: http::HeaderMap, $body| async move {
                $crate::http::problem::answer(async {
                    let $app_name = $crate::http::admission::admitted!($method $($versioned)?, $app_name, &headers)?;
                    $crate::http::body::check_json(&headers)?;
                    $handler.await
                }.await)
            })
            .boxed()
    };
}

pub(super) use {admitted, operator_route, operator_route_with_body, operator_route_with_query};
